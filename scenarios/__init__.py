"""Suites of scenarios, what made them, and a search for the mildest edit that makes a planner fail."""
