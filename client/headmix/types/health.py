"""Owns the types of the health endpoints."""

from headmix.types.result import Result


class Health(Result):
    """The API process is alive."""

    status: str


class Readiness(Result):
    """Whether requests are served now, and if not, why."""

    status: str
    reason: str | None = None

    @property
    def ready(self) -> bool:
        """True if the engine serves requests."""
        return self._meta.status == 200
