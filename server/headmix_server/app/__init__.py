"""The program: the only place that joins the parts, from an empty data folder to a server that answers."""
