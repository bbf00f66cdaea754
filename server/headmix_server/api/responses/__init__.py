"""The shapes in which answers are sent, whole and streamed."""
