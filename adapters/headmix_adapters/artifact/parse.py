"""A verified artifact's content in memory: its config, and its tensors as views of the file's own bytes.

Trusts the bytes, because the caller has compared their digest: what `verify` checked at upload is not checked again,
only what would break reading. Copies nothing, and reads each tensor's header entry once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import msgspec
import torch
from torch import Tensor

from headmix_adapters.artifact.faults import ArtifactError, ArtifactFault, quoted
from headmix_adapters.artifact.header import LENGTH_BYTES, METADATA_ENTRY
from headmix_adapters.artifact.open import adapted_layers
from headmix_adapters.config import METADATA_KEY, AdapterConfig, decode_for_tensors

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
)
_WIDEST = 8
"""Bytes of the widest dtype: data that starts at a multiple of it can be viewed as any dtype."""

_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]


_INDEX = msgspec.json.Decoder(dict[str, msgspec.Raw])
_METADATA = msgspec.json.Decoder(dict[str, str])
_ENTRY = msgspec.json.Decoder(_Entry)


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A config without its metadata, and its tensors; `layers` are the adapted ones in ascending order."""

    config: AdapterConfig
    layers: tuple[int, ...]
    _entries: Mapping[str, _Entry]
    _data: Tensor  # [bytes] uint8

    def names(self) -> Sequence[str]:
        """Return the names of all tensors."""
        return tuple(self._entries)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype a tensor is stored in; raises KeyError if there is no such tensor."""
        return _DTYPES[self._entries[name].dtype]

    def start(self, name: str) -> int:
        """Return where a tensor's bytes begin, for sorting tensors into the file's order."""
        return self._entries[name].data_offsets[0]

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as a view of the bytes; raises KeyError if there is no such tensor."""
        entry = self._entries[name]
        start, stop = entry.data_offsets
        dtype = _DTYPES[entry.dtype]
        data = self._data[start:stop]
        if start % dtype.itemsize:
            data = data.clone()
        return data.view(dtype).view(entry.shape)

    def stack(self, names: Sequence[str]) -> Tensor:
        """Stack tensors of the same shape to [len(names), *shape]; a view if they are evenly spaced in the file."""
        first, *others = (self._entries[name] for name in names)
        dtype = _DTYPES[first.dtype]
        step = others[0].data_offsets[0] - first.data_offsets[0] if others else 0
        even = all(
            (entry.dtype, entry.shape, entry.data_offsets[0])
            == (first.dtype, first.shape, first.data_offsets[0] + index * step)
            for index, entry in enumerate(others, 1)
        )
        if not even or step < 0 or step % dtype.itemsize or first.data_offsets[0] % dtype.itemsize:
            tensors = [self.tensor(name) for name in names]
            common = dtype if all(tensor.dtype == dtype for tensor in tensors) else torch.float64
            return torch.stack([tensor.to(common) for tensor in tensors])
        one = self.tensor(names[0])
        return one.as_strided((len(names), *one.shape), (step // dtype.itemsize, *one.stride()))


def read_stored(content: bytearray) -> StoredArtifact:
    """Open the bytes of an artifact that was verified when it was stored; the views keep them alive.

    Raises:
        ArtifactError: the bytes are not an artifact.
    """
    data_start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if data_start > len(content):
        raise _refuse("the header's length field exceeds the file's size")
    try:
        index = _INDEX.decode(memoryview(content)[LENGTH_BYTES:data_start])
        metadata = _METADATA.decode(index.pop(METADATA_ENTRY, msgspec.Raw(b"{}")))
        entries = {name: _ENTRY.decode(raw) for name, raw in index.items()}
        config = decode_for_tensors(metadata[METADATA_KEY])
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise _refuse(f"its header cannot be read: {quoted(str(error))}") from None
    if unknown := {entry.dtype for entry in entries.values()} - _DTYPES.keys():
        raise _refuse(f"dtype {quoted(min(unknown))} is not a dtype of adapters")
    data = torch.frombuffer(content, dtype=torch.uint8)[data_start:]
    if data_start % _WIDEST:
        data = data.clone()
    return StoredArtifact(config, adapted_layers(entries), MappingProxyType(entries), data)


def _refuse(reason: str) -> ArtifactError:
    return ArtifactError([ArtifactFault(None, reason)])
