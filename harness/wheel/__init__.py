"""Making the wheel with kernels compiled ahead, one library for each level of the processor."""
