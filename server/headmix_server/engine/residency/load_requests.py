"""Explicit load requests: each is open until its adapter is on the device or is known not to get there.

Owns the open `LoadAdapter` requests, and pins the adapters that they ask to pin. The tiers move adapters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from headmix_server.core.messages import AdapterLoaded, Failed, LoadAdapter, Output
from headmix_server.engine.residency.tiers import AdapterTiers
from headmix_server.engine.scheduling.adapter_admission import SLOT_PATIENCE_SECONDS

NO_SLOT_TO_PIN = "no slot is left that this tenant may pin; unpin another adapter first"


@dataclass(slots=True)
class _Load:
    message: LoadAdapter
    began: float

    @property
    def digest(self) -> str:
        return self.message.adapter.digest

    @property
    def tenant(self) -> str:
        return self.message.adapter.tenant


class LoadRequests:
    """The open load requests, by request id."""

    def __init__(self, tiers: AdapterTiers, clock: Callable[[], float]) -> None:
        self._tiers = tiers
        self._clock = clock
        self._open: dict[str, _Load] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._open

    def add(self, message: LoadAdapter) -> Failed | None:
        """Begin a load; returns the error if it is refused at once because no slot can be pinned."""
        load = _Load(message, self._clock())
        self._tiers.mark_seen(load.tenant)
        if message.pin and not self._tiers.slots.can_pin(load.digest, load.tenant):
            return _refusal(message)
        self._tiers.remember(load.digest, load.tenant)
        self._tiers.load(message.adapter, load.tenant)
        self._open[message.request_id] = load
        return None

    def drop(self, request_id: str) -> None:
        """Drop a load request without a response; does nothing if it is not open."""
        self._open.pop(request_id, None)

    def unpin(self, digest: str, tenant: str | None = None) -> None:
        """Do not pin the adapter for this tenant, or (None) for any tenant; the loads themselves stay open."""
        for load in self._open.values():
            if load.digest == digest and load.message.pin and tenant in (None, load.tenant):
                load.message = msgspec.structs.replace(load.message, pin=False)

    def poll(self) -> list[Output]:
        """Install the adapters that can be installed; returns the responses of the finished loads."""
        answers: list[Output] = []
        for request_id, load in list(self._open.items()):
            if self._tiers.install(load.message.adapter, load.tenant):
                del self._open[request_id]
                answers.append(self._answer(load))
        return answers

    def _answer(self, load: _Load) -> Output:
        if load.message.pin:
            if not self._tiers.slots.can_pin(load.digest, load.tenant):  # others were pinned while this one loaded
                return _refusal(load.message)
            self._tiers.slots.pin(load.digest, load.tenant)
        seconds = self._clock() - load.began
        return AdapterLoaded(request_id=load.message.request_id, digest=load.digest, seconds=seconds)

    def waiting_for_slots(self) -> list[tuple[str, str]]:
        """Return the loads, as (digest, tenant), that have long been missing only a slot, once per adapter."""
        patient = self._clock() - SLOT_PATIENCE_SECONDS
        waiting = {load.digest: load.tenant for load in self._open.values() if load.began < patient}
        return [(digest, tenant) for digest, tenant in waiting.items() if self._tiers.waits_for_slot(digest, tenant)]

    def digests(self) -> set[str]:
        """Return the adapters that open loads name."""
        return {load.digest for load in self._open.values()}

    def fail(self, code: str, text: str, *, digest: str | None = None) -> list[Output]:
        """End the loads of one adapter, or all of them, with an error; returns the responses."""
        failed = [name for name, load in self._open.items() if digest in (None, load.digest)]
        for request_id in failed:
            del self._open[request_id]
        return [Failed(request_id=request_id, code=code, message=text) for request_id in failed]


def _refusal(message: LoadAdapter) -> Failed:
    return Failed(request_id=message.request_id, code="server_overloaded", message=NO_SLOT_TO_PIN)
