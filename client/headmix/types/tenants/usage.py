"""Owns the types of usage."""

from headmix.types.result import Part, Result


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


class Storage(Part):
    """The bytes that a tenant stores now: artifacts, files, and what jobs hold; a `limit` of 0 means none.

    `held_by_jobs` of them are only stored until unfinished jobs end.
    """

    tenant: str
    stored_bytes: int = 0
    held_by_jobs: int = 0
    limit: int = 0


class UsageList(Part):
    """The response body around usage lines."""

    data: tuple[UsageLine, ...]


class StorageReport(Result):
    """The response body around a tenant's storage."""

    storage: Storage
