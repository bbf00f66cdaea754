"""Owns the shapes of an adapter: one version of it, what a push returns, and what a removal returns."""

from pydantic import JsonValue

from headmix.types.result import Part, Result


class Canary(Part):
    """A second version of a name, and how many of a hundred of its requests it gets."""

    version: int
    percent: int


class Example(Part):
    """A prompt an adapter was trained for, and the answer or label to expect.

    A `chat` prompt is a message of chat; any other is the text itself, to complete or classify.
    """

    prompt: str
    expect: str = ""
    chat: bool = False


class Adapter(Result):
    """One version of an adapter. `size_bytes` is the artifact's size, `created` a Unix time in seconds.

    `name` is what to send as `model`, of another tenant's adapter `owner/name`; `pinned` and `canary` are the name's.

    `state` is `ready`, or `retired` for a version that is kept and cannot be named. `resident` says where its tensors
    are now: `device`, `host` or `disk`. `sites`, `training` and `examples` are as the artifact has them. The last two
    come from `get` alone, and `training` is None if the server does not show it because it is too large.
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
    training: dict[str, JsonValue] | None = None
    examples: tuple[Example, ...] = ()


class AdapterVersion(Adapter):
    """One entry of an adapter's history; `current` is true for the one that its plain name means."""


class PushedAdapter(Adapter):
    """The adapter as it is after a push."""

    @property
    def new_version(self) -> bool:
        """False when the bytes were those of the current version already, and nothing changed."""
        return self._meta.status == 201


class Sharing(Result):
    """Whom an adapter is shared with: everyone, or the tenants named; nobody where neither is."""

    name: str
    everyone: bool
    tenants: tuple[str, ...] = ()


class DeletedAdapter(Result):
    """What a removal took away."""

    name: str
    deleted: bool
    versions: tuple[int, ...] = ()


class AdapterList(Part):
    """The wire's envelope around adapters."""

    data: tuple[Adapter, ...]
    has_more: bool = False


class AdapterVersionList(Part):
    """The wire's envelope around an adapter's history."""

    data: tuple[AdapterVersion, ...]
    has_more: bool = False
