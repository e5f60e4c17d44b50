"""Dataset versions: batches, which answer counts, freezing, and handing a version over."""
