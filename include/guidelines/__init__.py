"""Approved guidelines: Confluence storage format in, sanitised and digest-named releases out."""
