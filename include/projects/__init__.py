"""Labelling projects: one YAML file each, checked on load."""
