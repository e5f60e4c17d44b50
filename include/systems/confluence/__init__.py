"""Confluence: its values and its client."""
