"""Who is asked, what they decided, and whether it counts."""
