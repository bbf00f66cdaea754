"""Slots for a request with several adapters, which it needs all at once.

Such a request takes its leases only when all its adapters are on the device, so two requests never hold what the other
lacks. Meanwhile its adapters come and go like all others, and where slots are scarce, they might never meet. So one
request at a time, the one whose turn comes first among those that have waited for a while, has those of its adapters
that are on the device kept there, and gets the others loaded and into slots before anyone else. Others lose at most its
number of adapters minus one, and never the last slot.
"""

from headmix_server.engine.residency.tiers import AdapterTiers
from headmix_server.engine.sequence import Sequence

NO_ROOM = "the request's adapters do not fit on the device together, next to the pinned ones"


class Gathering:
    """One step's gathering for a sequence; None if no sequence has waited long enough."""

    def __init__(self, sequence: Sequence | None, tiers: AdapterTiers) -> None:
        self.sequence = sequence
        self._tiers = tiers
        self._digests = [] if sequence is None else [ref.digest for ref in sequence.adapters]
        tiers.slots.keep(self._digests)
        if sequence is not None:
            tiers.load_first(sequence.adapters, sequence.tenant)
            tiers.install_together(sequence.adapters, sequence.tenant)

    def is_for(self, sequence: Sequence) -> bool:
        """Return whether a sequence is the one gathered for."""
        return sequence is self.sequence

    def missing(self) -> list[str]:
        """Return the adapters that are loaded and lack only a slot."""
        if self.sequence is None:
            return []
        tenant = self.sequence.tenant
        return [digest for digest in self._digests if self._tiers.waits_for_slot(digest, tenant)]

    @property
    def is_hopeless(self) -> bool:
        """Whether a missing adapter would find no room even if all that may leave had left: waiting would not help."""
        return any(self._tiers.can_never_join(digest, self._digests) for digest in self.missing())
