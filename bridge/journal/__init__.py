"""The journal: what happened to every call of this instance, on disk before anyone is told."""
