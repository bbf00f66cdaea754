"""Where the layer tensors of the adapters in slots are kept, and what a step computes with them."""

from collections.abc import Collection, Sequence
from typing import Protocol

from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan


class SlotStorage(Protocol):
    """One way to keep adapters; a pool uses exactly one, so nothing is stored twice."""

    def stage(self, image: AdapterImage) -> AdapterImage:
        """Return the image in the type and memory that `put` copies from; called on loader threads."""
        ...

    def put(self, slot: int, image: AdapterImage) -> None:
        """Store an adapter in a slot, which must be empty.

        Raises:
            Exception: it cannot be stored; the caller then empties the slot with `remove`.
        """
        ...

    @property
    def number_bytes(self) -> int:
        """Bytes per number as kept; 0 if they are kept as stored."""
        ...

    def size_of(self, image: AdapterImage) -> int:
        """Return how many bytes of memory an image takes."""
        ...

    def fits(self, image: AdapterImage, emptied: Collection[int]) -> bool:
        """Return whether `put` would find a place for an image once these slots are empty."""
        ...

    @property
    def committed_bytes(self) -> int:
        """Memory currently taken for adapters, including that of removed images until it is given back."""
        ...

    def remove(self, slot: int) -> None:
        """Empty a slot, so that no later step can see its former content; does nothing if it is empty."""
        ...

    def step(self, spans: Sequence[SlotSpan], added: AddedInputs | None = None) -> StepAdapters | None:
        """Return what the adapters add to the rows of these spans in a step; None for the base alone.

        `added` are the rows of the batch whose token was added by one of these adapters.
        """
        ...
