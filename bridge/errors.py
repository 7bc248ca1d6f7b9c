"""The root of our errors."""


class BridgeError(Exception):
    """Anything this product raises on purpose."""


class MisuseError(BridgeError):
    """Our own code called something in a state that forbids it: a bug."""
