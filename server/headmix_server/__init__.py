"""The headmix server: an API process (asyncio, no torch) and an engine process (torch, no web)."""
