"""The daemon. `bridge.daemon` builds it; docs/design.md has a line for each package."""
