"""What the routes of fine-tuning jobs do besides reading and shaping bodies."""
