"""API keys: made, hashed, checked, revoked."""
