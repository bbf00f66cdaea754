"""Adapters as a tenant sees them: the catalog's entry plus the tier where the engine holds the adapter."""

from headmix_server.api.schemas.adapters import AdapterList, AdapterObject, adapter_object
from headmix_server.api.state import ApiState
from headmix_server.catalog.page import Page
from headmix_server.catalog.version import AdapterVersion


def view(state: ApiState, tenant: str, version: AdapterVersion) -> AdapterObject:
    """Return one version."""
    return adapter_object(tenant, version, state.residency(tenant, version.digest))


def view_page(state: ApiState, tenant: str, page: Page) -> bytes:
    """Return a page as JSON. Call it in a thread: a large page would block the event loop."""
    data = [view(state, tenant, version) for version in page.versions]
    return AdapterList(data=data, has_more=page.has_more).model_dump_json().encode()
