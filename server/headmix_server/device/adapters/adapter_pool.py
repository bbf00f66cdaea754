"""The adapters on the device: which slot holds which adapter's tensors.

Owns the classification heads, the added tokens and each slot's generation; the storage owns the layer tensors. A lease
of another generation finds nothing here, so a row may fail but can never run with another adapter's tensors.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headmix_adapters.config import AdapterConfig
from headmix_server.core.runner import Lease
from headmix_server.device.adapters.adapter_files import LoadedAdapter
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan


@dataclass(frozen=True, slots=True)
class Occupant:
    """What a slot holds besides its layer tensors. `head` are the classifier's tensors, empty for a generation adapter.

    `added` [n, D] are the rows of the tokens it adds to the vocabulary, None if it adds none.
    """

    generation: int
    digest: str
    config: AdapterConfig
    head: dict[str, Tensor]
    added: Tensor | None = None


class AdapterPool:
    """The adapters in all slots; `dtype` and `device` are the base's."""

    def __init__(self, storage: SlotStorage, dtype: torch.dtype, device: torch.device) -> None:
        self._storage = storage
        self._dtype = dtype
        self._device = device
        self._occupants: dict[int, Occupant] = {}

    def stage(self, adapter: LoadedAdapter) -> LoadedAdapter:
        """Return an adapter ready to be installed; called on loader threads."""
        size = self._storage.size_of(adapter.image)
        rest = sum(tensor.numel() for tensor in adapter.rest.values()) * self._dtype.itemsize
        return replace(adapter, image=self._storage.stage(adapter.image), device_bytes=size + rest)

    def install(self, slot: int, generation: int, adapter: LoadedAdapter) -> None:
        """Copy an adapter's tensors into a slot, which must be empty; if that fails, the slot is empty again."""
        if slot in self._occupants:
            raise RuntimeError(f"slot {slot} is not empty")
        try:
            self._storage.put(slot, adapter.image)
        except BaseException:
            self._storage.remove(slot)
            raise
        head = {name: self._place(t) for name, t in adapter.rest.items() if name.startswith("classifier.")}
        rows = adapter.rest.get("added_tokens.embedding")
        added = None if rows is None else self._place(rows)
        self._occupants[slot] = Occupant(generation, adapter.digest, adapter.config, head, added)

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._dtype)

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        del self._occupants[slot]
        self._storage.remove(slot)

    def fits(self, adapter: LoadedAdapter, emptied: Collection[int]) -> bool:
        """Return whether an adapter could be installed once these slots are empty."""
        return self._storage.fits(adapter.image, emptied)

    @property
    def number_bytes(self) -> int:
        """Bytes per number of the layer tensors, 0 if they are kept as stored."""
        return self._storage.number_bytes

    @property
    def committed_bytes(self) -> int:
        """Memory currently taken by adapters, including heads and added tokens."""
        rest = [
            tensor
            for one in self._occupants.values()
            for tensor in (*one.head.values(), one.added)
            if tensor is not None
        ]
        return self._storage.committed_bytes + sum(tensor.nbytes for tensor in rest)

    def occupant(self, lease: Lease) -> Occupant | None:
        """Return what the lease refers to, or None if the slot's content is not what was leased."""
        occupant = self._occupants.get(lease.slot)
        if occupant is None or occupant.generation != lease.generation or occupant.digest != lease.digest:
            return None
        return occupant

    def route(self, spans: Sequence[SlotSpan], added: AddedInputs | None = None) -> StepAdapters | None:
        """Return what the adapters add in a step; see `SlotStorage.step`."""
        return self._storage.step(spans, added)
