"""What each tenant uses: counted in memory as requests end, added to the database periodically.

Requests must not wait for a write, so a crash loses what came after the last one. While the database is unavailable
nothing is lost; and if it fails between a commit and its response, it is asked later whether it committed, so that
nothing counts twice.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql, sqlite

from headmix_server.core.errors import ServerOverloaded
from headmix_server.database import transaction_number, was_committed, writing
from headmix_server.tenancy.tables import UsageRow

BASE_ALONE = ""
REST = "*"
"""The adapter that absorbs the counts for which there is no room in memory; no adapter can have this name."""

MOST_KEPT = 10_000
"""Pairs of tenant and adapter that are counted separately between two writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Counts of the requests that reached the model, however they ended, and of the tokens computed for them.

    `trained_tokens` are those that fine-tuning jobs have read, each once per epoch.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    trained_tokens: int = 0

    def __add__(self, other: "Used") -> "Used":
        return Used(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            generation_tokens=self.generation_tokens + other.generation_tokens,
            trained_tokens=self.trained_tokens + other.trained_tokens,
        )


_Counts = dict[tuple[str, str, str], Used]
"""By tenant, day and adapter."""


class UsageMeter:
    """Counts what is used. Safe to use from many threads; `clock` returns Unix seconds, days are in UTC."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._counts: _Counts = {}
        self._in_doubt: tuple[int, _Counts] | None = None  # a transaction whose commit was not confirmed
        self._written_at = 0.0

    def add(self, tenant: str, adapter: str | None, used: Used) -> None:
        """Count a request that has ended; `adapter` None means the base alone."""
        day = datetime.fromtimestamp(self._clock(), UTC).date().isoformat()
        with self._lock:
            _add(self._counts, {(tenant, day, BASE_ALONE if adapter is None else adapter): used})

    def flush(self) -> None:
        """Add the counts to the database, all or nothing; if that fails they are kept for the next time.

        Raises:
            StorageUnavailable, ServerOverloaded, InsufficientStorage: see `database.writing`.
        """
        with self._writing:
            self._resolve_doubt()
            with self._lock:
                counts, self._counts = self._counts, {}
            self._written_at = self._clock()
            if not counts:
                return
            try:
                self._write(counts)
            except BaseException:
                if self._in_doubt is None:
                    self._keep(counts)
                raise

    def _resolve_doubt(self) -> None:
        """Find out whether the counts in doubt were written, and count those that were not again."""
        if self._in_doubt is None:
            return
        number, counts = self._in_doubt
        written = was_committed(self._engine, number)
        if written is None:
            raise ServerOverloaded("The transaction that wrote the usage before has not ended.")
        self._in_doubt = None
        if not written:
            self._keep(counts)

    def _keep(self, counts: _Counts) -> None:
        with self._lock:
            newer, self._counts = self._counts, counts
            _add(self._counts, newer)

    def unwritten(self) -> tuple[tuple[str, str, str, Used], ...]:
        """Return the counts not known to be in the database: tenant, day, adapter and counts, in order."""
        with self._lock:
            counts = dict(self._counts)
        if self._in_doubt is not None:
            _add(counts, self._in_doubt[1])
        return tuple((*key, used) for key, used in sorted(counts.items()))

    def flush_for_reader(self, *, seconds: float = 1.0) -> None:
        """Flush unless that was done in the last `seconds`: readers must not determine how often usage is written."""
        if not 0 <= self._clock() - self._written_at < seconds:
            self.flush()

    def _write(self, counts: _Counts) -> None:
        rows = [
            {"tenant": tenant, "day": day, "adapter": adapter, **asdict(used)}
            for (tenant, day, adapter), used in sorted(counts.items())
        ]
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement = insert(UsageRow)
        added = {name: getattr(UsageRow, name) + statement.excluded[name] for name in asdict(Used())}
        with writing(self._engine) as session:
            session.connection().execute(
                statement.on_conflict_do_update(index_elements=["tenant", "day", "adapter"], set_=added), rows
            )
            number = transaction_number(session)
            self._in_doubt = None if number is None else (number, counts)
        self._in_doubt = None


def _add(counts: _Counts, more: Mapping[tuple[str, str, str], Used]) -> None:
    for (tenant, day, adapter), used in more.items():
        key = (tenant, day, adapter)
        if key not in counts and len(counts) >= MOST_KEPT:
            key = (tenant, day, REST)
        counts[key] = counts.get(key, Used()) + used
