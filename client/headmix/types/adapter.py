"""Owns the types of an adapter: one version of it, what a push returns, and what a removal returns."""

from pydantic import JsonValue

from headmix.types.result import Part, Result


class Canary(Part):
    """A second version of a name, and the percentage of its requests it gets."""

    version: int
    percent: int


class Example(Part):
    """A prompt an adapter was trained for, and the answer or label to expect.

    A `chat` prompt is a chat message, to send with `tools`; any other is a text to complete or classify.
    """

    prompt: str
    expect: str = ""
    chat: bool = False
    tools: tuple[dict[str, JsonValue], ...] = ()


class Adapter(Result):
    """One version of an adapter. `size_bytes` is the artifact's size, `created` a Unix time in seconds.

    `name` is what to send as `model` (`owner/name` if another tenant's); `pinned` and `canary` belong to the name.

    `state` is `ready`, or `retired` for a version that is kept but cannot be named. `resident` says where its tensors
    are now: `device`, `host` or `disk`. `sites`, `chat_template`, `training` and `examples` are the artifact's own.
    Only `get` returns the last three. `chat_template` is None if its chats use the base's, and `training` if it is too
    large for the server to show.
    """

    name: str
    owner: str | None = None
    version: int
    digest: str
    task: str
    method: str
    base: str
    labels: tuple[str, ...] | None = None
    added_tokens: tuple[str, ...] = ()
    size_bytes: int = 0
    num_parameters: int = 0
    created: int = 0
    current: bool = False
    state: str = "ready"
    resident: str | None = None
    pinned: bool = False
    canary: Canary | None = None
    sites: dict[str, JsonValue] | None = None
    chat_template: str | None = None
    training: dict[str, JsonValue] | None = None
    examples: tuple[Example, ...] = ()


class AdapterVersion(Adapter):
    """One entry of an adapter's history; `current` is true for the version that the plain name refers to."""


class PushedAdapter(Adapter):
    """The adapter after a push."""

    @property
    def new_version(self) -> bool:
        """False if the bytes were already those of the current version, so nothing changed."""
        return self._meta.status == 201


class Sharing(Result):
    """Whom an adapter is shared with: everyone, or the named tenants; nobody if neither is set."""

    name: str
    everyone: bool
    tenants: tuple[str, ...] = ()


class DeletedAdapter(Result):
    """What was removed."""

    name: str
    deleted: bool
    versions: tuple[int, ...] = ()


class AdapterList(Part):
    """The response body around adapters."""

    data: tuple[Adapter, ...]
    has_more: bool = False


class AdapterVersionList(Part):
    """The response body around an adapter's history."""

    data: tuple[AdapterVersion, ...]
    has_more: bool = False
