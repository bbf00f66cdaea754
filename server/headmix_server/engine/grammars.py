"""The grammars of requests, compiled on separate threads so that a slow one delays only the requests that use it.

Owns the threads, the cache of matchers, and which sequences wait for which grammar. The compiler interprets grammars.
"""

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from headmix_server.core.grammar import GrammarCompiler, GrammarError, Matcher
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.types import AdapterRef
from headmix_server.engine.background import TurnQueue, stand_behind_steps
from headmix_server.engine.sequence import Sequence

KEPT_BYTES = 8 * 2**20
"""Total size of the texts of the grammars whose compiled form is cached; that form takes about ten times as much."""

_LEAST_BYTES = 8 * 2**10
"""The size that even the shortest grammar is counted with."""

CLOSE_SECONDS = 1.0
"""How long `close` waits for a grammar that is being compiled."""

Key = tuple[str | None, str]
"""An adapter's digest (None for the base alone) and a grammar."""


@dataclass(frozen=True, slots=True)
class _Task:
    key: Key
    adapter: AdapterRef | None


class Grammars:
    """Gives sequences their matchers; used on the engine's thread. Without `compiler`, no grammar can be enforced."""

    def __init__(self, compiler: GrammarCompiler | None, threads: int = 2, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._compiler = compiler
        self._num_threads = threads
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[Key, Matcher] = OrderedDict()
        self._bytes = 0
        self._waiting: dict[Key, list[Sequence]] = {}
        self._todo: TurnQueue[_Task] = TurnQueue()
        self._done: queue.SimpleQueue[tuple[Key, Matcher | GrammarError]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def enforceable(self) -> bool:
        """Whether grammars can be enforced at all."""
        return self._compiler is not None

    @property
    def num_pending(self) -> int:
        """Number of grammars that are queued, being compiled, or compiled but not polled yet."""
        return len(self._waiting)

    def prepare(self, sequence: Sequence) -> None:
        """Give a new sequence its matcher, now or in a later `poll`; does nothing for a sequence without a grammar."""
        if (grammar := sequence.grammar) is None:
            return
        key = (sequence.digest, grammar)
        matcher = self._kept.get(key)
        if matcher is not None:
            self._kept.move_to_end(key)
            sequence.matcher = matcher.copy()
        elif key in self._waiting:
            self._waiting[key].append(sequence)
        else:
            self._waiting[key] = [sequence]
            self._start_threads()
            self._todo.put(sequence.tenant, _Task(key, sequence.adapter))

    def poll(self) -> Iterable[tuple[Sequence, GrammarError]]:
        """Give sequences their compiled matchers; returns those whose grammars are invalid, each with the error.

        The sequences may have ended meanwhile.
        """
        failed: list[tuple[Sequence, GrammarError]] = []
        while not self._done.empty():
            key, outcome = self._done.get()
            sequences = self._waiting.pop(key)
            if isinstance(outcome, GrammarError):
                failed += [(sequence, outcome) for sequence in sequences]
                continue
            self._keep(key, outcome)
            for sequence in sequences:
                sequence.matcher = outcome.copy()
        return failed

    def _keep(self, key: Key, matcher: Matcher) -> None:
        self._kept[key] = matcher
        self._bytes += _size(key)
        while self._bytes > self._kept_bytes and len(self._kept) > 1:
            oldest, _ = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)

    def _start_threads(self) -> None:
        while len(self._threads) < self._num_threads:
            name = f"grammar-compiler-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        stand_behind_steps()
        while (task := self._todo.get()) is not None:
            self._done.put((task.key, self._compile(task)))

    def _compile(self, task: _Task) -> Matcher | GrammarError:
        if self._compiler is None:
            return GrammarError("this server cannot enforce grammars")
        try:
            _, grammar = task.key
            return self._compiler.compile(grammar, task.adapter)
        except GrammarError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a grammar's failures must reach the sequences that wait
            get_logger("grammars").exception("a grammar could not be compiled")
            return GrammarError(f"{type(error).__name__}: {error}")

    def check_integrity(self) -> None:
        """Check that the cached sizes add up, and that no waiting sequence has a matcher.

        Raises:
            RuntimeError: the accounting is broken.
        """
        if sum(map(_size, self._kept)) != self._bytes:
            raise RuntimeError("the bytes of the grammars kept do not add up")
        if any(sequence.matcher is not None for waiting in self._waiting.values() for sequence in waiting):
            raise RuntimeError("a sequence waits for a grammar that it has")

    def close(self) -> None:
        """Stop compiling further grammars; waits briefly for those in progress."""
        self._todo.close()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)


def _size(key: Key) -> int:
    return max(_LEAST_BYTES, len(key[1]))
