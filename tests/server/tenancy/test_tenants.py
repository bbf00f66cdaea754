import pytest
from sqlalchemy import Engine

from headmix_server.core.errors import InvalidRequest
from headmix_server.database import audit_entries, reading
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.tenants import Tenants


def test_a_tenant_is_made_once_and_the_audit_says_by_whom(engine: Engine) -> None:
    tenants = Tenants(engine)
    made, new = tenants.create("acme", actor="key_root")
    again, newer = tenants.create("acme", actor="key_other")
    assert (new, newer) == (True, False)
    assert made == again == tenants.get("acme")
    with reading(engine) as session:
        entries = audit_entries(session, limit=5)
    assert [(entry.action, entry.tenant, entry.actor) for entry in entries] == [("tenant.create", "acme", "key_root")]


def test_tenants_are_listed_by_name_with_the_number_of_keys_not_revoked(engine: Engine) -> None:
    tenants, keys = Tenants(engine), Keys(engine)
    tenants.create("b", actor="key_root")
    keys.create("c", ["inference"])
    revoked = keys.create("a", ["inference"])
    keys.create("a", ["inference"])
    keys.revoke("a", revoked.info.key_id)
    assert [(tenant.name, tenant.keys) for tenant in tenants.list()] == [("a", 1), ("b", 0), ("c", 1)]


def test_an_unknown_tenant_is_not_found_and_a_malformed_one_is_not_created(engine: Engine) -> None:
    tenants = Tenants(engine)
    assert tenants.get("nobody") is None
    with pytest.raises(InvalidRequest):
        tenants.create("No Name", actor="key_root")
    assert tenants.list() == ()
