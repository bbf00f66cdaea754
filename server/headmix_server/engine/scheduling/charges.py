"""What tenants are charged for their sequences: the prompt tokens, generated tokens and other work of each row.

Owns the counters of service, those of background sequences apart from those of the others. Prompt tokens are charged
only once; tokens found in the prefix cache are not charged, nor are those recomputed after a preemption. Does not know
what runs when.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from headmix_server.engine.scheduling.sampling_cost import input_extra, output_extra
from headmix_server.engine.scheduling.virtual_counters import VirtualCounters
from headmix_server.engine.sequence import Sequence, account_of, generates

FORGET_ABOVE = 64
"""Number of tenants with a counter above which the counters of absent tenants are dropped, if that loses nothing."""


class Charges:
    """The charges of one scheduler. `counters` are those of the sequences that are not background work."""

    def __init__(self, counters: VirtualCounters) -> None:
        self._counters = {False: counters, True: VirtualCounters()}
        self._forget_above = FORGET_ABOVE

    def counters(self, *, background: bool) -> VirtualCounters:
        """Return the counters of background sequences, or of the others."""
        return self._counters[background]

    def service(self, sequence: Sequence) -> float:
        """Return the service that a sequence's account has received."""
        return self._counters[sequence.background].counter(sequence.account)

    def set_weight(self, tenant: str, weight: float) -> None:
        """Set a tenant's weight, also of its background work, from now on; raises as `VirtualCounters.set_weight`."""
        for background, counters in self._counters.items():
            counters.set_weight(account_of(tenant, background=background), weight)

    def row(self, sequence: Sequence, count: int) -> None:
        """Charge for a scheduled row: its prompt tokens, and the token it yields.

        Log-probabilities and penalties are charged with their tokens.
        """
        end = min(sequence.num_computed + count, sequence.prompt_length)
        inputs = max(0, end - max(sequence.num_computed, sequence.num_charged))
        sequence.num_charged = max(sequence.num_charged, end)
        yields = count == sequence.remaining and generates(sequence.params)
        extra = inputs * input_extra(sequence.params)
        if yields:
            extra += output_extra(sequence.params, len(sequence.tokens))
        self._counters[sequence.background].charge(sequence.account, inputs=inputs, outputs=int(yields), extra=extra)

    def generated(self, sequences: Collection[Sequence], *, background: bool) -> None:
        """Charge for the rows of generating sequences of one kind, which yield one token each."""
        extras: defaultdict[str, float] = defaultdict(float)
        for sequence in sequences:
            extras[sequence.account] += output_extra(sequence.params, len(sequence.tokens))
        for account, count in Counter(sequence.account for sequence in sequences).items():
            self._counters[background].charge(account, outputs=count, extra=extras[account])

    def drafted(self, sequence: Sequence, count: int) -> None:
        """Charge for the tokens that a row's drafts yielded beyond the first."""
        extra = count * output_extra(sequence.params, len(sequence.tokens))
        self._counters[sequence.background].charge(sequence.account, outputs=count, extra=extra)

    @property
    def are_many(self) -> bool:
        """Whether there are so many counters that `forget_absent` is due."""
        return sum(map(len, self._counters.values())) > self._forget_above

    def forget_absent(self, sequences: Iterable[Sequence], known: Collection[str]) -> None:
        """Drop the counters of accounts without any of these sequences; `known` tenants keep their weights.

        It is due again when the number of counters has doubled.
        """
        present = {sequence.account for sequence in sequences}
        for background, counters in self._counters.items():
            accounts = [account_of(tenant, background=background) for tenant in known]
            counters.forget(present & counters.accounts, known=accounts)
        self._forget_above = max(FORGET_ABOVE, 2 * sum(map(len, self._counters.values())))
