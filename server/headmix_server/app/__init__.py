"""The program: the only place that assembles the parts, from an empty data folder to a running server."""
