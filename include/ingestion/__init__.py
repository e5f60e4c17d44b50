"""From source files to staged tasks: scan, read, de-duplicate, and set aside what is malformed."""
