"""What travels with a release so that a reader has to ask nobody: metadata, card, lineage, a signed statement."""
