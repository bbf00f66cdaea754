"""Computing adapters' terms for a batch: one protocol, its implementations, and their references."""
