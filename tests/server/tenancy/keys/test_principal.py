import pytest

from headmix_server.core.errors import Forbidden
from headmix_server.tenancy.keys.principal import ALL_SCOPES, Principal, Scope


def test_a_principal_may_do_what_its_scopes_say_and_nothing_else() -> None:
    principal = Principal("acme", frozenset({Scope.INFERENCE}))
    principal.require(Scope.INFERENCE)
    for scope in ALL_SCOPES - principal.scopes:
        with pytest.raises(Forbidden, match=scope.value):
            principal.require(scope)
