"""The shapes of request and response bodies, as shown in OpenAPI."""
