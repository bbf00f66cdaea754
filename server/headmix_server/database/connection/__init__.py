"""From a URL to an engine that reports clearly when its database is unavailable."""
