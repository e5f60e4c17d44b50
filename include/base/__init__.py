"""What every other package may use: canonical bytes, typed errors, the store."""
