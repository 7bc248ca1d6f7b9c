"""Web calls and voice sessions: a room with a person and an agent, and no phone."""
