"""The adapter that a route's path names: the tenant's own, or with `?owner=` one that another tenant shares with it."""

from typing import Annotated

from fastapi import Depends, Query

from headmix_server.api.dependencies import AdaptersKey, State

Owner = Annotated[str | None, Query(description="the tenant that shares the adapter; absent: your own adapter")]


def reference(name: str, owner: Owner = None) -> str:
    """Return the adapter of a path in the form that `model` takes."""
    return name if owner is None else f"{owner}/{name}"


Named = Annotated[str, Depends(reference)]
"""An adapter to read or use: `name` or `owner/name`, optionally with a version such as `@3`."""


async def own_name(named: Named, principal: AdaptersKey, state: State) -> str:
    """Return the bare name of an adapter to change.

    Raises:
        ModelNotFound: it is another tenant's and not shared with this one.
        Forbidden: it is another tenant's and shared with this one.
    """
    if "/" not in named:
        return named
    return await state.threads.manage(principal.tenant, state.library.catalog.sharing.own_name, principal.tenant, named)


OwnName = Annotated[str, Depends(own_name)]
"""The tenant's own adapter to change; it may not exist."""
