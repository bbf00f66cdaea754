"""What a server may do while it renews its lease, cannot renew it, or has lost it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Engine

from headmix_server.app.storage.lease_keeper import SAFE_PART, UNCONFIRMED, LeaseKeeper, steady_clock
from headmix_server.core.errors import InsufficientStorage, StorageUnavailable
from headmix_server.database import Holder, Lease, ensure_tenant, reading, writing
from headmix_server.database.base import Tenant

SECONDS = 10.0


class FlakyLease(Lease):
    """A lease whose database fails when a test says so."""

    fault: Exception | None = None

    def renew(self) -> bool:
        if self.fault is not None:
            raise self.fault
        return super().renew()


@dataclass
class Rig:
    """A keeper that has just taken its lease, with the reasons for losing it."""

    engine: Engine
    locked: bool = False
    now: float = 50.0
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lease = FlakyLease(self.engine, Holder("first", SECONDS))
        self.successor = Lease(self.engine, Holder("second", SECONDS))
        self.lease.take(self.lease.look())
        self.keeper = LeaseKeeper(
            self.lease, self.now, on_lost=self.lost.append, locked=self.locked, clock=lambda: self.now
        )

    def succeed(self) -> None:
        """Make another server take the lease."""
        assert self.successor.take(self.successor.look())


@pytest.fixture
def rig(engine: Engine) -> Rig:
    return Rig(engine)


def test_requests_are_served_while_the_last_renewal_is_younger_than_the_lease(rig: Rig) -> None:
    rig.now += SAFE_PART * SECONDS - 0.01
    assert rig.keeper.refusal() is None
    rig.keeper.beat()
    rig.now += SAFE_PART * SECONDS - 0.01
    assert rig.keeper.refusal() is None
    rig.now += 0.02
    assert rig.keeper.refusal() == UNCONFIRMED
    rig.keeper.beat()
    assert rig.keeper.refusal() is None


def test_a_renewal_counts_from_when_it_began_however_long_it_took(rig: Rig) -> None:
    began = rig.now
    rig.now += SECONDS
    rig.keeper.confirm(began, held=True)
    assert rig.keeper.refusal() == UNCONFIRMED


def test_while_the_database_is_unavailable_the_lease_is_kept_and_it_is_confirmed_on_its_return(rig: Rig) -> None:
    rig.lease.fault = StorageUnavailable("away")
    for _ in range(100):
        rig.now += 1
        rig.keeper.beat()
    assert (rig.keeper.refusal(), rig.keeper.lost, rig.lost) == (UNCONFIRMED, None, [])
    rig.lease.fault = None
    rig.keeper.beat()
    assert rig.keeper.refusal() is None


def test_a_suspended_server_learns_from_its_next_beat_that_another_has_taken_over(rig: Rig) -> None:
    rig.now += 60
    rig.succeed()
    assert rig.keeper.refusal() == UNCONFIRMED
    rig.keeper.beat()
    reason = "another headmix server (second) has taken over the database"
    assert (rig.keeper.refusal(), rig.keeper.lost, rig.lost) == (reason, reason, [reason])
    rig.successor.release()
    rig.keeper.beat()
    assert rig.lost == [reason]
    assert rig.keeper.refusal() == reason


def test_a_database_that_was_put_back_to_an_older_state_ends_the_server(rig: Rig) -> None:
    rig.lease.release()
    rig.keeper.beat()
    assert rig.lost == ["this server's lease on the database is gone"]


def test_nothing_is_written_after_another_server_has_taken_over(rig: Rig) -> None:
    fenced = rig.engine.execution_options(fence=rig.keeper.fence)
    with writing(fenced) as session:
        ensure_tenant(session, "before")
    rig.succeed()
    with pytest.raises(StorageUnavailable, match="nothing was changed"), writing(fenced) as session:
        ensure_tenant(session, "after")
    with reading(fenced) as session:
        assert session.get(Tenant, "before") is not None
        assert session.get(Tenant, "after") is None
    assert len(rig.lost) == 1
    with writing(rig.engine) as session:
        ensure_tenant(session, "unfenced")


def test_on_a_full_disk_a_server_keeps_serving_if_no_other_can_open_the_database(engine: Engine) -> None:
    for locked, refusal in ((True, None), (False, UNCONFIRMED)):
        rig = Rig(engine, locked=locked)
        rig.lease.fault = InsufficientStorage("full")
        rig.now += SECONDS
        rig.keeper.beat()
        assert rig.keeper.refusal() == refusal
        rig.succeed()
        rig.keeper.beat()
        assert bool(rig.lost) is locked


def test_a_close_gives_the_lease_back_unless_it_is_lost(rig: Rig) -> None:
    rig.keeper.close()
    assert rig.lease.look().token is None
    lost = Rig(rig.engine)
    lost.succeed()
    lost.keeper.beat()
    lost.keeper.close()
    assert lost.successor.is_held()


def test_a_close_while_the_database_is_unavailable_is_no_error(rig: Rig) -> None:
    rig.engine.dispose()
    rig.lease.release = lambda: (_ for _ in ()).throw(StorageUnavailable("away"))  # type: ignore[method-assign]
    rig.keeper.close()


@pytest.fixture
def running(engine: Engine) -> Iterator[tuple[LeaseKeeper, Lease, threading.Event]]:
    """A keeper with its thread and the real clock."""
    lost = threading.Event()
    lease = Lease(engine, Holder("first", 1.0))
    taken_at = steady_clock()
    lease.take(lease.look())
    keeper = LeaseKeeper(lease, taken_at, on_lost=lambda _: lost.set())
    keeper.start()
    yield keeper, lease, lost
    keeper.close()


def test_the_thread_renews_by_itself_and_reports_a_loss(
    engine: Engine, running: tuple[LeaseKeeper, Lease, threading.Event]
) -> None:
    _, lease, lost = running
    before = lease.look().beats
    while lease.look().beats < before + 3:
        assert not lost.wait(0.05)
    successor = Lease(engine, Holder("second", 1.0))
    while not successor.take(successor.look()):
        pass
    assert lost.wait(30)
    assert successor.is_held()
