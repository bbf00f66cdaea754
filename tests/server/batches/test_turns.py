"""Which batch gives its place to which tenant's."""

from headmix_server.batches.turns import TURN_SECONDS, Place, who_yields
from headmix_server.jobs.next_job import Had


def places(**seconds: tuple[str, float]) -> list[Place]:
    return [Place(batch, tenant, since) for batch, (tenant, since) in seconds.items()]


LONG = 2 * TURN_SECONDS


def test_the_tenant_with_most_places_gives_its_longest_held() -> None:
    held = places(a=("one", LONG), b=("one", LONG + 1), c=("two", LONG + 9))
    found = who_yields(held, {"one": Had(2, 0.0), "two": Had(1, 9e9)}, "new")
    assert found is not None
    assert found.batch == "b"


def test_nobody_gives_a_place_before_the_turn_is_over() -> None:
    assert who_yields(places(a=("one", TURN_SECONDS - 1)), {"one": Had(1, 9.0)}, "new") is None


def test_tenants_with_a_place_each_take_turns_by_the_time_they_have_had() -> None:
    held = places(a=("one", LONG))
    assert who_yields(held, {"one": Had(1, 100.0), "new": Had(0, 99.0)}, "new") is not None
    assert who_yields(held, {"one": Had(1, 100.0), "new": Had(0, 101.0)}, "new") is None  # it would be claimed again


def test_a_tenant_that_has_as_many_places_as_others_gets_none_of_theirs() -> None:
    held = places(a=("one", LONG), b=("two", LONG))
    assert who_yields(held, {"one": Had(1, 100.0), "two": Had(1, 5.0)}, "two") is None


def test_a_tenant_never_yields_to_itself() -> None:
    assert who_yields(places(a=("one", LONG), b=("one", LONG)), {"one": Had(2, 100.0)}, "one") is None
