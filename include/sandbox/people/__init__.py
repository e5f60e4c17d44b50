"""People who work in the outside systems, simulated over the same interfaces as real ones."""
