"""JSON schemas as clients send them, for checking that answers fit them: by keyword, like real records, and drawn."""
