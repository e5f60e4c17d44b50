"""The local stand-ins for services that nobody can start on a laptop, and the demo that plays on them."""
