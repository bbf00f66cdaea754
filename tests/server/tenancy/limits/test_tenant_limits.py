import pytest
from sqlalchemy import Engine

from headmix_server.core.settings.settings import Settings
from headmix_server.database import audit_entries, reading
from headmix_server.tenancy.limits.limits import LIMIT_NAMES, Limits, default_limits
from headmix_server.tenancy.limits.tenant_limits import REMEMBERED_SECONDS, TenantLimits

DEFAULTS = Limits(requests_per_minute=60, stored_bytes=2**40)


def test_defaults_are_the_settings_and_nothing_is_limited_without_any() -> None:
    assert default_limits(Settings()) == Limits()
    names = [name for name in LIMIT_NAMES if name != "weight"]
    given = default_limits(Settings.model_validate({f"limit_{name}": place + 1 for place, name in enumerate(names)}))
    assert [getattr(given, name) for name in names] == list(range(1, len(names) + 1))


def test_a_tenants_own_limits_override_the_defaults_until_they_are_reset(engine: Engine) -> None:
    limits = TenantLimits(engine, DEFAULTS)
    assert limits.of("acme") == DEFAULTS
    limits.change("acme", {"requests_per_minute": 0, "weight": 2.5, "stored_bytes": 2**50}, actor="key_root")
    assert limits.of("acme") == Limits(requests_per_minute=0, stored_bytes=2**50, weight=2.5)
    limits.change("acme", {"requests_per_minute": None}, actor="key_root")
    assert limits.of("acme") == Limits(requests_per_minute=60, stored_bytes=2**50, weight=2.5)
    assert limits.of("other") == DEFAULTS
    assert {name: value for name, value in limits.own("acme").items() if value is not None} == {
        "stored_bytes": 2**50,
        "weight": 2.5,
    }


def test_a_change_is_audited_and_one_that_changes_nothing_is_not(engine: Engine) -> None:
    limits = TenantLimits(engine, DEFAULTS)
    for _ in range(2):
        limits.change("acme", {"adapters": 5}, actor="key_root")
    with reading(engine) as session:
        (entry,) = audit_entries(session, tenant="acme", limit=10)
    assert (entry.action, entry.actor, entry.detail) == ("tenant.limits", "key_root", {"adapters": 5})


def test_a_change_holds_at_once_here_and_soon_in_another_server(engine: Engine) -> None:
    now = 100.0
    here, there = (TenantLimits(engine, DEFAULTS, clock=lambda: now) for _ in range(2))
    assert here.of("acme").adapters == there.of("acme").adapters == 0
    here.change("acme", {"adapters": 5}, actor="key_root")
    assert here.of("acme").adapters == 5
    assert there.of("acme").adapters == 0
    now += REMEMBERED_SECONDS
    assert there.of("acme").adapters == 5


def test_what_was_read_before_a_change_is_not_remembered_after_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = TenantLimits(engine, DEFAULTS)
    read = limits.own

    def changed_meanwhile(tenant: str) -> dict[str, int | float | None]:
        old = read(tenant)
        limits.change(tenant, {"adapters": 5}, actor="key_root")
        return old

    monkeypatch.setattr(limits, "own", changed_meanwhile)
    limits.of("acme")
    monkeypatch.undo()
    assert limits.of("acme").adapters == 5


def test_an_unknown_limit_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="colour"):
        TenantLimits(engine, DEFAULTS).change("acme", {"colour": 1}, actor="key_root")
