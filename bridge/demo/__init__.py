"""What `make run` starts: a server, the bridge, an agent and a carrier, and two calls."""
