"""Components that recipes import."""
