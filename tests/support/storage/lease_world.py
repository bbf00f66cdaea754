"""Servers that share a lease, on simulated clocks: each a sequence of small parts, with anything happening in between.

The watch and the keeper are the real ones; the lease is a real one on a database, or one in memory, which is faster.
The parts follow the order in which `take_lease` and the keeper's thread use them, so that time can pass and others can
act between them.
"""

import heapq
import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from headmix_server.app.storage.lease_keeper import BEATS, RETRIES, LeaseKeeper
from headmix_server.core.errors import StorageUnavailable
from headmix_server.database import Holder, Lease, Tenant, writing
from headmix_server.database.lease.lease import LeaseRow, Seen
from headmix_server.database.lease.lease_watch import LeaseWatch, Verdict

SECONDS = 10.0
CLOCKS = ((0.0, 1.0), (1e6, 0.97), (-5e5, 1.03), (3.0, 1.0))
"""Each server's clock offset and speed; a server is identified by its index here."""
PLACES = ("", "folder", "elsewhere", "folder")
"""The second and the last server share a data folder, so they never run at the same time."""

Life = Iterator[float]
"""The parts of a server's life; each yielded value is the time until the next part."""


@dataclass
class SimulatedServer:
    """A running process. It is frozen until `still_until`, and cannot reach the database while `cut_off`."""

    number: int
    lease: Lease
    keeper: LeaseKeeper | None = None
    still_until: float = 0.0
    cut_off_until: float = 0.0
    lost: list[str] = field(default_factory=list)


class InMemoryLease(Lease):
    """A lease whose row is in memory, shared by every lease that is given it."""

    def __init__(self, row: list[Seen], holder: Holder) -> None:
        self._row = row
        self.holder = holder

    def look(self) -> Seen:
        return self._row[0]

    def take(self, seen: Seen) -> bool:
        if (self._row[0].token, self._row[0].beats) != (seen.token, seen.beats):
            return False
        own = self.holder
        self._row[0] = Seen(own.token, own.name, own.place, own.seconds, seen.beats + 1)
        return True

    def renew(self) -> bool:
        if self.is_held():
            self._row[0] = replace(self._row[0], beats=self._row[0].beats + 1)
        return self.is_held()

    def release(self) -> bool:
        held = self.is_held()
        if held:
            self._row[0] = replace(self._row[0], token=None)
        return held

    def is_held(self) -> bool:
        return self._row[0].token == self.holder.token

    def is_held_in(self, session: Session) -> bool:
        del session
        return self.is_held()


class LeaseWorld:
    """All servers and the database, whose lease nobody holds yet.

    `chance` decides how long each part takes; `slow` are the slow parts. Without an `engine` the lease is in memory.
    """

    def __init__(self, engine: Engine | None, chance: Random, slow: float) -> None:
        if engine is not None:
            with writing(engine) as session:
                session.execute(update(LeaseRow).values(token=None, holder="", place="", seconds=0.0, beats=0))
        self._engine = engine
        self._row = [Seen(None, "", "", 0.0, 0)]
        self.now = 0.0
        self.away_until = 0.0
        self.living: dict[int, SimulatedServer] = {}
        self.takeovers = 0
        self.refused = 0
        self._chance = chance
        self.slow = slow
        self._ids = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def _lease(self, holder: Holder) -> Lease:
        return InMemoryLease(self._row, holder) if self._engine is None else Lease(self._engine, holder)

    def _write(self, keeper: LeaseKeeper) -> None:
        if self._engine is None:
            keeper.fence(Session())
            return
        with writing(self._engine.execution_options(fence=keeper.fence)) as session:
            session.execute(update(Tenant).values(created=Tenant.created + 1))

    # --- what happens ------------------------------------------------------------------------------------------------

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Schedule something at a time."""
        heapq.heappush(self._queue, (moment, next(self._ids), act))

    def run(self, until: float, check: Callable[[], None]) -> None:
        """Let time pass; `check` is called after every event."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, act = heapq.heappop(self._queue)
            act()
            check()
        self.now = until

    def start(self, number: int) -> None:
        """Start a server unless it, or another on its data folder, is running."""
        place = PLACES[number]
        if not any(other == number or (place and PLACES[other] == place) for other in self.living):
            lease = self._lease(Holder(f"server {number}", SECONDS, place))
            server = self.living[number] = SimulatedServer(number, lease)
            self._go_on(server, self._life(server))

    def kill(self, number: int) -> None:
        """Kill a server."""
        self.living.pop(number, None)

    def stop(self, number: int) -> None:
        """Stop a server properly, if it is serving and not frozen."""
        server = self.living.get(number)
        if server is not None and server.keeper is not None and server.still_until <= self.now:
            if self._reaches(server):
                server.keeper.close()
            del self.living[number]

    def write(self, number: int) -> bool | None:
        """Make a server write, like one that does not know of its loss yet; return whether it could, if it tried."""
        server = self.living.get(number)
        if server is None or server.keeper is None or server.still_until > self.now or not self._reaches(server):
            return None
        held = server.lease.is_held()
        try:
            self._write(server.keeper)
        except StorageUnavailable:
            assert not held
            assert server.lost
            return False
        assert held
        return True

    def serving(self) -> list[int]:
        """Return the servers that would serve a new request now."""
        return [
            server.number
            for server in self.living.values()
            if server.keeper is not None and server.still_until <= self.now and server.keeper.refusal() is None
        ]

    # --- a server's life ---------------------------------------------------------------------------------------------

    def _clock(self, server: SimulatedServer) -> float:
        offset, speed = CLOCKS[server.number]
        return offset + speed * self.now

    def _reaches(self, server: SimulatedServer) -> bool:
        return max(self.away_until, server.cut_off_until) <= self.now

    def _delay(self) -> float:
        return self._chance.uniform(0.0, 3.0 if self._chance.random() < self.slow else 0.01)

    def _go_on(self, server: SimulatedServer, life: Life) -> None:
        if self.living.get(server.number) is not server:
            return
        if server.still_until > self.now:
            self.at(server.still_until, lambda: self._go_on(server, life))
            return
        pause = next(life, None)
        if pause is None:
            if self.living.get(server.number) is server:
                del self.living[server.number]
        else:
            self.at(self.now + pause, lambda: self._go_on(server, life))

    def _life(self, server: SimulatedServer) -> Life:
        yield from self._take(server)
        while server.keeper is not None and not server.lost:
            failing = yield from self._beat(server, server.keeper)
            yield SECONDS / (RETRIES if failing else BEATS)

    def _take(self, server: SimulatedServer) -> Life:
        watch = LeaseWatch(PLACES[server.number])
        while self._reaches(server):  # a start without the database fails
            seen = server.lease.look()
            yield self._delay()
            verdict = watch.judge(seen, self._clock(server))
            if verdict is Verdict.HELD:
                self.refused += 1
                return
            if verdict is Verdict.FREE:
                taken_at = self._clock(server)
                yield self._delay()
                if self._reaches(server) and server.lease.take(seen):
                    self.takeovers += seen.token is not None
                    yield self._delay()
                    server.keeper = LeaseKeeper(
                        server.lease, taken_at, on_lost=server.lost.append, clock=lambda: self._clock(server)
                    )
                    return
            yield self._chance.uniform(0.05, 1.0)

    def _beat(self, server: SimulatedServer, keeper: LeaseKeeper) -> Generator[float, None, bool]:
        began = self._clock(server)
        yield self._delay()
        if not self._reaches(server):
            return True
        held = server.lease.renew()
        yield self._delay()
        keeper.confirm(began, held=held)
        return False
