"""Tenants, their keys and limits, and what they have used."""
