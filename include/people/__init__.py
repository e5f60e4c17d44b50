"""People and their names in each system."""
