"""Who sends a request, and what they may do."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from headmix_server.core.errors import Forbidden, InvalidRequest


class Scope(StrEnum):
    """What a key permits: to use models, to change the tenant's adapters, to read every tenant's metrics, and to
    administer the server with all tenants, their keys and limits.
    """

    INFERENCE = "inference"
    ADAPTERS = "adapters"
    METRICS = "metrics"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


def read_scopes(text: str) -> frozenset[Scope]:
    """Return the scopes that `write_scopes` stored."""
    return frozenset(map(Scope, text.split()))


def write_scopes(scopes: Collection[Scope | str]) -> str:
    """Return the scopes as they are stored.

    Raises:
        InvalidRequest: one is unknown, or there are none.
    """
    known = {scope.value for scope in Scope}
    if not scopes or not known.issuperset(scopes):
        raise InvalidRequest(f"A key needs one or more of the scopes {', '.join(sorted(known))}.", param="scopes")
    return " ".join(sorted(set(scopes)))


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant a request acts for. `key_id` is safe to log; it is None if keys are switched off."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    @property
    def actor(self) -> str:
        """The name that the audit records."""
        return self.key_id or "anyone"

    def require(self, scope: Scope) -> None:
        """Refuse unless the key has the scope.

        Raises:
            Forbidden: it does not.
        """
        if scope not in self.scopes:
            raise Forbidden(f"This key lacks the scope {scope.value!r}.")
