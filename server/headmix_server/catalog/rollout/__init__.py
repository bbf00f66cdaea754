"""Which version answers whom: canaries, pins, sharing, history."""
