"""The server's part in training: its own worker process, and jobs that no worker looks after."""
