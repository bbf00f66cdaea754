"""API keys: created, hashed, checked, revoked."""
