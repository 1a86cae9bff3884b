"""Golden episodes on the small test town, held to stored values."""
