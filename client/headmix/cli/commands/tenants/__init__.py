"""`headmix tenants`."""
