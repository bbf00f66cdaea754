"""The routes of tenants, and of what they have used."""
