"""The media engines against one another: ``python -m bench engines``."""
