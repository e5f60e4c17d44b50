"""OpenText Workflow Service: its values and its client."""
