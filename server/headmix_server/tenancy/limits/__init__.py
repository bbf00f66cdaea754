"""Limits on what a tenant may do: rates, open requests, quotas."""
