"""Accounts of a tier for tests: which tenants are active, and what their weights are."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from headmix_server.engine.residency.tenant_shares import TenantShares


def make_shares(present: Collection[str] = ("t",), weights: Mapping[str, float] = MappingProxyType({})) -> TenantShares:
    """Return empty accounts; `present` is read each time, so a test may change it."""
    return TenantShares(lambda tenant: weights.get(tenant, 1.0), lambda: present)
