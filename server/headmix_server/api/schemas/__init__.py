"""The shapes of request and response bodies; what OpenAPI shows."""
