"""Prodigy's shapes: hashes, tasks, tokens, and answers read back from stored rows."""
