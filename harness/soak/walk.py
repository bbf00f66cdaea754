"""The walk itself: a seed's operations one after another, checking every account after each, and every answer.

If anything is wrong, the walk ends with the seed and what was done last, which is enough to reproduce it.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.memory import living_objects, resident_mib
from harness.soak.environment import Environment
from harness.soak.operations import OPERATIONS, TENANTS, WalkState, expect
from harness.soak.oracle import Oracle
from harness.soak.reference_registry import ReferenceRegistry
from harness.soak.request_generator import RequestGenerator
from harness.soak.request_tracker import RequestTracker

JUDGE_AFTER = 100
"""The number of answers checked together: attaching an adapter to the oracle costs as much as checking one."""
REMEMBERED = 30


class WalkFailedError(AssertionError):
    """Something was wrong; the message says what, the seed, and what was done last."""


@dataclass(slots=True)
class Report:
    """What a walk did. `objects` counts the server's live objects at every rest, when all adapters are deleted.

    `prefix_hits` are prompt tokens found in the cache, `accepted_tokens` are tokens that were guessed ahead and right;
    `memory` are pairs of (seconds since the start, resident MiB), one per rest.
    """

    operations: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    cancelled: int = 0
    preemptions: int = 0
    evictions: Counter[str] = field(default_factory=Counter)
    prefix_hits: int = 0
    accepted_tokens: int = 0
    objects: list[Counter[str]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


class Walk:
    """One seed's walk through an environment; after every `rest_after` operations it drains, checks and deletes all."""

    def __init__(
        self, seed: int, environment: Environment, oracle: Oracle, *, num_contents: int = 24, rest_after: int = 500
    ) -> None:
        rng = random.Random(seed)
        self.report = Report()
        self._seed = seed
        self._began = time.monotonic()
        self._environment = environment
        self._oracle = oracle
        self._rest_after = rest_after
        self._tracker = RequestTracker(environment)
        self._journal: deque[str] = deque(maxlen=REMEMBERED)
        generator = RequestGenerator(rng, environment.base.vocab_size, environment.limits.longest)
        self._state = WalkState(
            rng, environment, self._tracker, ReferenceRegistry(), generator, num_contents, self._journal.append
        )

    def run(self, goes_on: Callable[[int], bool]) -> Report:
        """Walk while `goes_on(operations so far)`, then come to rest.

        Raises:
            WalkFailedError: anything is wrong.
        """
        done = 0
        names, weights = list(OPERATIONS), list(OPERATIONS.values())
        try:
            while goes_on(done):
                (operation,) = self._state.rng.choices(names, weights)
                self.report.operations[operation.__name__] += 1
                operation(self._state)
                self._environment.engine.check_integrity()
                done += 1
                if len(self._tracker.closed) >= JUDGE_AFTER:
                    self._judge()
                if done % self._rest_after == 0:
                    self._rest()
            self._rest()
        except Exception as error:
            last = "\n  ".join(self._journal)
            reason = f"{type(error).__name__}: {error}"
            text = f"seed {self._seed}, operation {done}: {reason}\nlast operations:\n  {last}"
            raise WalkFailedError(text) from error
        return self.report

    def _judge(self) -> None:
        expect("wrong answers", self._oracle.judge(self._tracker.take_closed()), [])

    def _rest(self) -> None:
        """Let everything finish, check it, and check that nothing is held; then delete all and count live objects."""
        self._journal.append("rest")
        self._tracker.drain()
        self._check_released()
        self._judge()
        self._delete_all()
        self.report.requests, self.report.cancelled = self._state.asked, self._state.cancelled
        self.report.preemptions, self.report.evictions = self._tracker.preemptions, self._environment.evictions
        self.report.prefix_hits = self._environment.prefix_hits
        self.report.accepted_tokens = self._environment.accepted_tokens
        self.report.objects.append(living_objects())
        self.report.memory.append((time.monotonic() - self._began, resident_mib()))

    def _check_released(self) -> None:
        scheduler = self._environment.engine.scheduler
        self._environment.engine.check_integrity()
        expect("leases at rest", scheduler.tiers.slots.lease_counts(), {})
        expect("free blocks at rest", scheduler.kv_cache.num_free, scheduler.kv_cache.num_blocks)

    def _delete_all(self) -> None:
        for tenant in TENANTS:
            listed = {version.name: version.version for version in self._environment.library.catalog.list(tenant)}
            expect(f"{tenant}'s adapters", listed, self._state.registry.names(tenant))
            for name in listed:
                self._state.registry.delete(tenant, name)
                self._environment.delete(tenant, name)
        for number in range(self._state.num_contents):
            content = self._environment.contents.get(number)
            expect(f"content {number} is still stored", self._environment.stored(content), False)
        self._tracker.drain()
        tiers = self._environment.engine.tiers
        expect("adapters in memory after all were deleted", [*tiers.slots.digests(), *tiers.host.digests()], [])
