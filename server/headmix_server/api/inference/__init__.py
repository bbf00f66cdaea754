"""The life of one inference request, from a parsed body to the deltas of its response."""
