"""Owns the types of usage."""

from headmix.types.result import Part


class UsageLine(Part):
    """A sum; a field that was not grouped by is None. `model` is the base's or an adapter's name, `day` is in UTC."""

    tenant: str | None = None
    day: str | None = None
    model: str | None = None
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    trained_tokens: int = 0


class UsageList(Part):
    """The response body around usage lines."""

    data: tuple[UsageLine, ...]
