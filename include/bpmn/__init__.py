"""Process models for OpenText, what they mean to us, and a check that both agree."""
