"""Tenants seen in the last minute are active, and no others are remembered."""

from headmix_server.engine.residency.recent_tenants import PRESENCE_SECONDS, RecentTenants


def test_a_tenant_is_present_until_it_has_been_silent_for_long() -> None:
    now = 0.0
    presence = RecentTenants(lambda: now)
    presence.mark_seen("a")
    now = PRESENCE_SECONDS - 1
    presence.mark_seen("b")
    presence.mark_seen("a")
    now = 2 * PRESENCE_SECONDS - 1
    presence.mark_seen("c")
    assert set(presence.tenants()) == {"a", "b", "c"}
    now += 1
    assert set(presence.tenants()) == {"c"}
    assert list(presence._heard) == ["c"]
