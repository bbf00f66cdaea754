"""What follows from changes of the catalog and from the engine's reports."""
