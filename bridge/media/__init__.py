"""The media engines behind `bridge.media.seam`, and the binder of their ports."""
