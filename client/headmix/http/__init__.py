"""HTTP requests and responses: sending, retries and streaming."""
