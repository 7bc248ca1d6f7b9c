"""The HTTP API (contract 6): a FastAPI app over the call service, in a thread of its own."""
