"""Scripts that train policies, run from a checkout."""
