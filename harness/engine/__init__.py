"""An engine without a model: the fake runner with a disk, a clock and a record of its batches."""
