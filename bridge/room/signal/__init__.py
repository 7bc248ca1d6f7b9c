"""The direct engine's LiveKit signalling: a pure machine with a websocket shell."""
