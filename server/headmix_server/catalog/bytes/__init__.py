"""Artifacts' bytes: in a folder or a bucket, as uploads in progress, and as held by their users."""
