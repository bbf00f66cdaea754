"""Data files as rows with their lines, by format; none is read whole into memory."""
