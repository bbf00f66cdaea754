"""Requests and responses on the wire, sent, retried, streamed."""
