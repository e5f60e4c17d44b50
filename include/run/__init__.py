"""What a step of a use case works with."""
