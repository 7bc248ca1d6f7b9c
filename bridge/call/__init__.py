"""Calls: the pure machine, the `Call` that runs one, and the service over all of them."""
