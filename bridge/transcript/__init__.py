"""What was said on a call: heard in the room or posted by its agent, and how it is shown."""
