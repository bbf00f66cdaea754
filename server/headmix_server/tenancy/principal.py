"""Who asks, and what that one may do."""

from dataclasses import dataclass
from enum import StrEnum

from headmix_server.core.errors import Forbidden


class Scope(StrEnum):
    """What a key allows: to ask the models, to change the tenant's adapters, to administer tenants and keys."""

    INFERENCE = "inference"
    ADAPTERS = "adapters"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant a request acts for. `key_id` is safe to log; it is None where keys are switched off."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def require(self, scope: Scope) -> None:
        """Refuse unless the key has the scope.

        Raises:
            Forbidden: it has not.
        """
        if scope not in self.scopes:
            raise Forbidden(f"This key lacks the scope {scope.value!r}.")
