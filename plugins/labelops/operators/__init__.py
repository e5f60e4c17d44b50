"""What the DAGs are wired from."""
