"""From the bytes of an upload to a published version."""
