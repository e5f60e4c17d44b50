"""Prodigy's database: its values and its client."""
