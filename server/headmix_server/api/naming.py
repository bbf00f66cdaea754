"""Which adapter a route's path means: the tenant's own, or with `?owner=` one that another tenant shares with it."""

from typing import Annotated

from fastapi import Depends, Query

from headmix_server.api.dependencies import AdaptersKey, State

Owner = Annotated[str | None, Query(description="the tenant that shares the adapter; absent: your own adapter")]


def reference(name: str, owner: Owner = None) -> str:
    """Return the adapter of a path as one names it as `model`."""
    return name if owner is None else f"{owner}/{name}"


Named = Annotated[str, Depends(reference)]
"""An adapter to read or use, as `name`, `owner/name` or either with `@3`."""


async def own_name(named: Named, principal: AdaptersKey, state: State) -> str:
    """Return the bare name of an adapter to change.

    Raises:
        ModelNotFound: another tenant's that is not shared with this one.
        Forbidden: another tenant's that is.
    """
    if "/" not in named:
        return named
    return await state.threads.manage(principal.tenant, state.library.catalog.sharing.own_name, principal.tenant, named)


OwnName = Annotated[str, Depends(own_name)]
"""An adapter of the tenant's own, to change; it may not exist."""
