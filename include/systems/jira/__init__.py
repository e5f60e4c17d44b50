"""Jira: its values and its client."""
