"""One server at a time: the lease that a server holds on its database."""
