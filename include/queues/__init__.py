"""The way to people: inbox, batches, progress."""
