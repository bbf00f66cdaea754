"""The responses of the routes that run the model."""
