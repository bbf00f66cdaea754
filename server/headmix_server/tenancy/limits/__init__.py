"""What a tenant may do: limits, rates and open requests."""
