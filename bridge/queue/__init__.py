"""Calls that wait for room on their trunk, and commands for calls of other instances."""
