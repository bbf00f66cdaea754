"""The grammars written for what tenants want, kept within a limit.

Writing one is the workers' work, because a client can make it slow. What was refused is remembered too.
"""

from collections import OrderedDict

from headmix_server.core.grammar import GrammarError
from headmix_server.text.grammars.limits import TRIAL_SECONDS
from headmix_server.text.grammars.wanted import Wanted
from headmix_server.text.workers.apart import TooMuchWorkError
from headmix_server.text.workers.jobs import WriteGrammar
from headmix_server.text.workers.worker_pool import WorkerPool

KEPT_CHARACTERS = 4 * 2**20
"""Of what was wanted and the grammars written for it, for all tenants together."""


class GrammarBook:
    """The grammars written for what tenants want, kept within a limit; used on one event loop."""

    def __init__(self, workers: WorkerPool, *, kept_characters: int = KEPT_CHARACTERS) -> None:
        self._workers = workers
        self._kept_characters = kept_characters
        self._kept: OrderedDict[tuple[str, str], str | GrammarError] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def write(self, tenant: str, wanted: Wanted) -> str:
        """Return the grammar of what a tenant wants.

        Raises:
            GrammarError: it is faulty, or too much to enforce.
            ServerOverloaded, PayloadTooLarge: as `WorkerPool.run`.
        """
        key = (tenant, repr(wanted))
        outcome = self._kept.get(key)
        if outcome is None:
            outcome = await self._try(tenant, wanted, len(key[1]))
            self._keep(key, outcome)
        else:
            self._kept.move_to_end(key)
        if isinstance(outcome, GrammarError):
            raise GrammarError(str(outcome))
        return outcome

    async def _try(self, tenant: str, wanted: Wanted, size: int) -> str | GrammarError:
        try:
            return await self._workers.run(tenant, WriteGrammar(wanted), size)
        except GrammarError as error:
            return error
        except TooMuchWorkError:
            return GrammarError(f"compiling it takes more than {TRIAL_SECONDS:g} s of processor time")

    def _keep(self, key: tuple[str, str], outcome: str | GrammarError) -> None:
        if key in self._kept:  # asked for twice at the same time
            return
        self._kept[key] = outcome
        self._characters += _size(key, outcome)
        while self._characters > self._kept_characters:
            self._characters -= _size(*self._kept.popitem(last=False))


def _size(key: tuple[str, str], outcome: str | GrammarError) -> int:
    return len(key[0]) + len(key[1]) + len(str(outcome))
