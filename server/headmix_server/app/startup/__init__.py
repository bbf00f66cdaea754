"""What happens until the server serves: its settings are checked, the port answers, and the banner says where."""
