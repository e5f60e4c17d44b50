"""Pages in Confluence that we own."""
