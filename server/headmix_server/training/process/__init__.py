"""The training process: `headmix train` within limits, and the events it writes."""
