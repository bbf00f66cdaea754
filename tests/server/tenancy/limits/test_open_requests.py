from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.tenancy.limits.open_requests import OpenRequests


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3), st.booleans()), max_size=80))
def test_what_is_open_is_what_entered_and_has_not_left_and_never_above_the_limit(
    moves: list[tuple[str, int, bool]],
) -> None:
    requests, model = OpenRequests(), Counter[str]()
    for tenant, limit, enters in moves:
        if enters:
            assert requests.enter(tenant, limit) == (limit == 0 or model[tenant] < limit)
            model[tenant] += limit == 0 or model[tenant] < limit
        elif model[tenant]:
            requests.leave(tenant)
            model[tenant] -= 1
        assert [requests.of(name) for name in ("a", "b")] == [model["a"], model["b"]]


def test_leaving_without_having_entered_is_a_fault() -> None:
    with pytest.raises(RuntimeError):
        OpenRequests().leave("a")
