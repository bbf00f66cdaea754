"""Connections and their bounds, before a request reaches the API."""
