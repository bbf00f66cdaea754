"""The shapes of responses, whole and streamed."""
