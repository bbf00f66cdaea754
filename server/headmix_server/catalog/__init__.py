"""Who owns which adapter: content-addressed artifacts, and the names and versions that point at them."""
