"""Calls as files: both directions, written while a call runs, kept in a folder or a bucket."""
