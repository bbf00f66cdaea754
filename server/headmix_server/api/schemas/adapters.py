"""Bodies of /v1/adapters."""

from typing import Annotated, Any, Literal

from pydantic import Field

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.canary import CanaryObject
from headmix_server.api.schemas.numbers import Whole
from headmix_server.catalog.descriptions import Description
from headmix_server.catalog.version import AdapterVersion, VersionState
from headmix_server.core.types import Residency

VersionNumber = Annotated[int, Field(ge=1), Whole]


class AdapterObject(ResponseBody):
    """One version of an adapter. `resident` is the fastest tier that holds it; `created` is in Unix seconds.

    `name` is what the caller sends as `model`: prefixed with the `owner` if that is another tenant. A `retired` version
    is kept but cannot be named. `pinned` and `canary` apply to the name.
    """

    object: Literal["adapter"] = "adapter"
    name: str
    owner: str
    version: int
    digest: str
    task: Literal["generation", "classification"]
    method: Literal["kernel-mix", "lora"]
    base: str
    labels: list[str]
    added_tokens: list[str]
    size_bytes: int
    num_parameters: int
    created: int
    current: bool
    state: Literal["ready", "retired"]
    resident: Residency
    pinned: bool
    canary: CanaryObject | None
    sites: dict[str, Any]


class ExampleObject(ResponseBody):
    """A prompt the adapter was trained for, and the expected answer or label; a `chat` prompt is a user's message.

    `tools` may be called in the chat.
    """

    prompt: str
    expect: str
    chat: bool
    tools: list[dict[str, Any]]


class AdapterDetails(AdapterObject):
    """One version with the chat template, the example prompts and the training history of its artifact.

    `chat_template` is null if its chats use the base's. `training` is null if it exceeds this server's limit for
    responses; the artifact's file contains it.
    """

    chat_template: str | None
    training: dict[str, Any] | None
    examples: list[ExampleObject]


class AdapterList(ResponseBody):
    """Own adapters by name, then those shared by others; or versions, newest first.

    `has_more` is true if more follow; a page with large labels may be shorter than the limit.
    """

    object: Literal["list"] = "list"
    data: list[AdapterObject]
    has_more: bool


class AdapterDeleted(ResponseBody):
    """What a deletion removed."""

    object: Literal["adapter.deleted"] = "adapter.deleted"
    name: str
    deleted: Literal[True] = True
    versions: list[int]


class RollbackRequest(RequestBody):
    """The version that becomes current; absent: the previous one."""

    version: VersionNumber | None = None


class LoadRequest(RequestBody):
    """The version to load onto the device; absent: the current one."""

    version: VersionNumber | None = None


def adapter_details(
    tenant: str, version: AdapterVersion, resident: Residency, description: Description
) -> AdapterDetails:
    """Return the version as a tenant sees it when requesting it alone."""
    fields = adapter_object(tenant, version, resident)
    examples = [
        ExampleObject(prompt=one.prompt, expect=one.expect, chat=one.chat, tools=list(one.tools))
        for one in description.examples
    ]
    return AdapterDetails(
        **dict(fields),
        chat_template=version.config.chat_template or None,
        training=description.training,
        examples=examples,
    )


def adapter_object(tenant: str, version: AdapterVersion, resident: Residency) -> AdapterObject:
    """Return the version as a tenant sees it."""
    canary = version.canary
    return AdapterObject(
        name=version.called_by(tenant),
        owner=version.tenant,
        version=version.version,
        digest=version.digest,
        task=version.config.task,
        method=version.config.method,
        base=version.base_name,
        labels=list(version.labels),
        added_tokens=list(version.config.added_tokens),
        size_bytes=version.size_bytes,
        num_parameters=version.num_parameters,
        created=version.created,
        current=version.current,
        state="retired" if version.state is VersionState.RETIRED else "ready",
        resident=resident,
        pinned=version.pinned,
        canary=None if canary is None else CanaryObject(version=canary.version, percent=canary.percent),
        sites=version.sites,
    )
