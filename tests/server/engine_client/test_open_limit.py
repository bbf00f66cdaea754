"""A tenant that has opened every request it may does not keep others out, and does not stay over its limit."""

from headmix_server.engine_client.open_limit import OpenLimit


def fill(requests: OpenLimit, tenant: str) -> int:
    """Open as many requests as the tenant may; return how many."""
    count = 0
    while requests.has_room(tenant):
        requests.enter(f"{tenant}{count}", tenant)
        count += 1
    return count


def test_a_tenant_alone_has_everything_and_a_full_server_still_has_a_part_for_others() -> None:
    requests = OpenLimit(12)
    assert [fill(requests, tenant) for tenant in "abc"] == [12, 6, 4]
    assert not requests.has_room("a")


def test_what_is_closed_makes_room() -> None:
    requests = OpenLimit(1)
    fill(requests, "a")
    requests.leave("a0")
    assert fill(requests, "b") == 1
    requests.clear()
    assert fill(requests, "a") == 1
