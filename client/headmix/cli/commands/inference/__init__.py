"""Commands that run the model, and the options that they share."""
