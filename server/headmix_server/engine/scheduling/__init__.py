"""Which sequences run in the next step: the queue, its fairness, and the rows of a step."""
