"""Runs what drivers test of their connections, with pytest, against the simulated and a real server."""
