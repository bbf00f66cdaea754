"""The routes of jobs, batches, and the files that they read and write."""
