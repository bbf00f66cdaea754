"""What a run comes to: statistics, goals, the report file and its page."""
