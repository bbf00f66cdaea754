"""Bodies of /v1/adapters/{name}/sharing."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.common import Text
from headmix_server.catalog.rollout.sharing import Shares

MOST_TENANTS = 1000


class SharingRequest(RequestBody):
    """The tenants to share an adapter with, or everyone."""

    tenants: Annotated[list[Text], Field(max_length=MOST_TENANTS, fail_fast=True)] | None = None
    everyone: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "SharingRequest":
        if (self.tenants is None) == (self.everyone is None):
            raise ValueError("give either tenants or everyone")
        return self


class SharingObject(ResponseBody):
    """Who an adapter is shared with; no one if `everyone` is false and `tenants` is empty."""

    object: Literal["adapter.sharing"] = "adapter.sharing"
    name: str
    everyone: bool
    tenants: list[str]


def sharing_object(name: str, shares: Shares) -> SharingObject:
    """Return the shares as their owner sees them."""
    return SharingObject(name=name, everyone=shares.everyone, tenants=list(shares.tenants))
