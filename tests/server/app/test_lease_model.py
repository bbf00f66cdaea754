"""Servers start, renew, freeze, are killed and lose the database in any order: two never serve at the same time."""

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from headmix_server.database import ensure_tenant, open_database, writing
from tests.support.storage.lease_world import CLOCKS, SECONDS, LeaseWorld

ROUND = 25.0
NUMBERS = st.sampled_from(range(len(CLOCKS)))
TROUBLES = ("stand still", "cut off", "away", "kill", "stop", "nothing")

Happening = tuple[float, str, int, float]
"""Events: when, what, to which server, and for how many seconds."""


@st.composite
def plans(draw: st.DrawFn) -> list[Happening]:
    """Draw rounds: something happens to a server, and around then others start, with any other events in between."""
    plan: list[Happening] = []
    for number in range(draw(st.integers(1, 4))):
        began = ROUND * number
        trouble, victim = draw(st.sampled_from(TROUBLES)), draw(NUMBERS)
        plan.append((began + draw(st.floats(0.0, 5.0)), trouble, victim, draw(st.floats(1.0, 30.0))))
        starters = draw(st.lists(st.tuples(st.floats(0.0, 8.0), NUMBERS), min_size=1, max_size=3))
        plan += [(began + after, "start", starter, 0.0) for after, starter in starters]
    others = st.tuples(
        st.floats(0.0, ROUND * 4), st.sampled_from((*TROUBLES, "start", "write")), NUMBERS, st.floats(0.5, 5.0)
    )
    return plan + draw(st.lists(others, max_size=6))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all examples, which need not survive a power failure."""
    engine = open_database(tmp_path_factory.mktemp("lease") / "headmix.db")
    with writing(engine) as session:
        ensure_tenant(session, "written")
    event.listen(engine, "connect", _hasten)
    engine.dispose()
    yield engine
    engine.dispose()


def _hasten(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF").close()


def happen(world: LeaseWorld, what: str, number: int, seconds: float) -> None:
    server = world.living.get(number)
    match what:
        case "start":
            world.start(number)
        case "kill":
            world.kill(number)
        case "stop":
            world.stop(number)
        case "away":
            world.away_until = world.now + seconds
        case "write":
            world.write(number)
        case "stand still" if server is not None:
            server.still_until = world.now + seconds
        case "cut off" if server is not None:
            server.cut_off_until = world.now + seconds


def simulate(engine: Engine | None, plan: list[Happening], seed: int, slow: float) -> LeaseWorld:
    """Run a plan, and start a server at its end; check the promises after every event."""
    world = LeaseWorld(engine, Random(seed), slow)

    def check() -> None:
        assert len(world.serving()) <= 1
        for number in list(world.living):
            server = world.living[number]
            if server.lost:
                assert world.write(number) is not True

    world.start(0)
    for moment, what, number, seconds in plan:
        world.at(moment, partial(happen, world, what, number, seconds))
    world.run(4 * ROUND, check)
    for number in list(world.living):
        world.kill(number)
    world.away_until, world.slow = world.now, 0.0
    world.start(2)
    world.run(world.now + 2 * SECONDS, check)
    assert world.serving() == [2], "once the others are gone, the next server must get the lease"
    return world


ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "plan": plans(),
    "seed": st.integers(0, 2**32),
    "slow": st.sampled_from((0.0, 0.1, 0.5)),
}


@settings(max_examples=500, deadline=None)
@given(**ARGUMENTS)
def test_no_two_servers_ever_serve_at_once_and_the_next_always_can(
    plan: list[Happening], seed: int, slow: float
) -> None:
    simulate(None, plan, seed, slow)


@settings(max_examples=15, deadline=None)
@given(**ARGUMENTS)
def test_no_two_servers_ever_serve_at_once_on_a_real_database(
    engine: Engine, plan: list[Happening], seed: int, slow: float
) -> None:
    simulate(engine, plan, seed, slow)


def test_the_simulation_contains_takeovers_and_refusals() -> None:
    """If it had none, the tests above would prove nothing."""
    plan: list[Happening] = [(5.0, "start", 1, 0.0), (20.0, "stand still", 0, 40.0), (25.0, "start", 2, 0.0)]
    world = simulate(None, plan, 1, 0.0)
    assert world.takeovers == 2
    assert world.refused == 1
