"""A tenant that has opened all there may be keeps nobody else out, and not forever more than there may be."""

from headmix_server.engine_client.open_limit import OpenLimit


def fill(requests: OpenLimit, tenant: str) -> int:
    """Open as many requests as the tenant may; returns how many that were."""
    count = 0
    while requests.has_room(tenant):
        requests.enter(f"{tenant}{count}", tenant)
        count += 1
    return count


def test_whoever_is_alone_has_all_and_a_full_server_still_has_a_part_for_others() -> None:
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
