"""The server's part in jobs: what checks them and publishes their results, its own training worker, and batches."""
