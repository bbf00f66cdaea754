"""From a URL to an engine that says plainly when its database is unavailable."""
