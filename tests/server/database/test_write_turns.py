"""Writers take turns: none starves, no tenant's writes keep others waiting, and the server's own go first."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from headmix_server.core.errors import ServerOverloaded
from headmix_server.core.turns import SERVER
from headmix_server.database import open_database, reading, writing
from headmix_server.database.write_turns import MOST_WAITING, WriteTurns
from headmix_server.tenancy.keys.keys import Keys


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def turns_of(engine: Engine) -> WriteTurns:
    turns = engine.get_execution_options()["write_turns"]
    assert isinstance(turns, WriteTurns)
    return turns


def until(holds: Callable[[], bool]) -> None:
    """Return once the condition holds; otherwise the test's time limit ends it."""
    while not holds():
        time.sleep(0.001)


@contextmanager
def writers(engine: Engine, *tenants: str) -> Iterator[list[str]]:
    """Make a writer for each tenant wait, in this order, while `a` writes; yield those that have written so far.

    At the end all have.
    """
    order: list[str] = []

    def write(tenant: str) -> None:
        with writing(engine, tenant):
            order.append(tenant)

    threads = [threading.Thread(target=write, args=(tenant,)) for tenant in tenants]
    with writing(engine, "a"):
        for number, thread in enumerate(threads):
            thread.start()
            until(lambda number=number: turns_of(engine).waiting > number)  # type: ignore[misc]
        yield order
        assert order == []
    for thread in threads:
        thread.join()


def test_tenants_take_turns_and_the_servers_own_write_goes_first(engine: Engine) -> None:
    with writers(engine, "a", "a", "a", "b", "c", "b", SERVER) as order:
        pass
    assert order == [SERVER, "b", "c", "a", "b", "a", "a"]


def test_writes_of_one_tenant_that_wait_are_bounded_and_others_still_get_their_turn(engine: Engine) -> None:
    with writers(engine, *["a"] * MOST_WAITING, "b") as order:
        with pytest.raises(ServerOverloaded) as caught, writing(engine, "a"):
            pass  # not reached
        assert caught.value.retry_after == 1
    assert order[0] == "b"


def test_a_writer_waiting_for_its_turn_takes_no_connection_and_no_reader_waits(engine: Engine) -> None:
    keys = Keys(engine)
    key = keys.create("acme", ["inference"]).plaintext
    with writers(engine, *(f"tenant-{number}" for number in range(70))):  # more than there are connections
        assert keys.authenticate(key).tenant == "acme"
        with reading(engine) as reader:
            reader.connection()


def test_a_wait_that_times_out_or_is_interrupted_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = WriteTurns(0.01)
    with turns.turn("a"):
        with pytest.raises(ServerOverloaded), turns.turn("b"):
            pass  # not reached
        monkeypatch.setattr(threading.Event, "wait", _interrupt)
        with pytest.raises(KeyboardInterrupt), turns.turn("b"):
            pass  # not reached
        monkeypatch.undo()
        assert turns.waiting == 0
    with turns.turn("b"):
        pass


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
