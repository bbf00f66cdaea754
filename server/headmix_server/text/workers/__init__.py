"""Processes that read long texts and large bodies, and what they do there."""
