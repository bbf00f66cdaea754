"""Adapters as a tenant sees them: what the catalog knows, with where the engine has them."""

from collections.abc import Sequence

from headmix_server.api.schemas.adapters import AdapterList, AdapterObject, adapter_object
from headmix_server.api.state import ApiState
from headmix_server.catalog.version import AdapterVersion


def view(state: ApiState, tenant: str, version: AdapterVersion) -> AdapterObject:
    """Return one version."""
    return adapter_object(tenant, version, state.residency(version.digest))


def view_list(state: ApiState, tenant: str, versions: Sequence[AdapterVersion], limit: int) -> AdapterList:
    """Return up to `limit` of the versions found; one more was asked for, to know whether there are others."""
    data = [view(state, tenant, version) for version in versions[:limit]]
    return AdapterList(data=data, has_more=len(versions) > limit)
