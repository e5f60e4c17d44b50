"""Doors to the outside systems: one hook each."""
