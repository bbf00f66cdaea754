"""Which version serves which requests: canaries, pins, sharing, history."""
