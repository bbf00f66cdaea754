"""Pictures of training and of adapters, drawn with matplotlib, which is an optional extra."""
