"""Files that tenants upload, and those that jobs make: their rows, their bytes, and uploads in parts."""
