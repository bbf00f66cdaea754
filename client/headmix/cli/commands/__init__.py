"""One module per command; the commands of one noun share a folder."""
