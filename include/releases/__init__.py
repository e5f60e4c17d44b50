"""From an approved version to those who use it, and back."""
