"""Counts the tokens that all tenants' jobs read while this server runs, wherever their workers are."""

import time
from collections.abc import Callable, Mapping

from sqlalchemy import Engine, func, select

from headmix_server.database import reading
from headmix_server.tenancy.tables import UsageRow
from headmix_server.tenancy.usage.trained import day_of

_DAY_SECONDS = 24 * 3600


class TrainedTally:
    """Reads the usage of the last two days: a worker may charge tokens to yesterday a moment after midnight.

    Used by one thread at a time.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._seen: Mapping[str, int] | None = None

    def newly_trained(self) -> int:
        """Return the tokens read since the last call, 0 at the first.

        A day whose sum has fallen, since usage was deleted, counts from there on. Raises as `reading`.
        """
        days = UsageRow.day
        query = select(days, func.sum(UsageRow.trained_tokens)).where(days >= day_of(self._clock() - _DAY_SECONDS))
        with reading(self._engine) as session:
            sums = {day: int(tokens) for day, tokens in session.execute(query.group_by(days))}
        seen, self._seen = self._seen, sums
        return 0 if seen is None else sum(max(0, tokens - seen.get(day, 0)) for day, tokens in sums.items())
