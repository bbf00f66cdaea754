"""What tenants have used."""
