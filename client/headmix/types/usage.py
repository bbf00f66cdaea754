"""Owns the shape of what was used."""

from headmix.types.result import Part


class UsageLine(Part):
    """A sum; a group that was not asked for is None. `model` is the base's name or an adapter's, `day` is UTC's."""

    tenant: str | None = None
    day: str | None = None
    model: str | None = None
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0


class UsageList(Part):
    """The wire's envelope around lines."""

    data: tuple[UsageLine, ...]
