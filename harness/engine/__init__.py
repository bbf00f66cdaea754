"""An engine without a model: the fake runner with a fake disk, a clock and a record of its batches."""
