"""Golden episodes: what is driven, how it is recorded, and how two recordings are compared bit for bit."""
