"""What was tried against the promises: read the names of the tests as a list of attacks."""
