"""What works on this machine, what is missing, and for what: ``python -m dist4d_env doctor``."""
