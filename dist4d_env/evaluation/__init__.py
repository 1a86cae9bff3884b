"""Closed-loop runs of planners: the runner, stored episodes, statistics, video and report."""
