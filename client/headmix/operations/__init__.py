"""Every operation of the API as a function from arguments to a `Request`. The clients' methods are made from these."""
