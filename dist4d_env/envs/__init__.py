"""The Gymnasium environment and its pieces: configuration, observations, actions, rewards, episode end, pictures."""
