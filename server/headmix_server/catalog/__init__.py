"""Which tenant owns which adapter: content-addressed artifacts, and the names and versions that point to them."""
