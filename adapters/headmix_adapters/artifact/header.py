"""The safetensors header, read by our own parser, which trusts nothing in the file.

Owns the container format: the length field, the JSON index, dtypes and byte ranges. Knows no tensor names and nothing
about adapters, so `base` reads the frozen model's files with it too. Format: https://github.com/huggingface/safetensors
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import BinaryIO, TypeGuard

from headmix_adapters.artifact.checks.foreign import SNIFFED_BYTES, foreign_file
from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.artifact.faults import ArtifactError, ArtifactFault, FaultList, quoted

METADATA_ENTRY = "__metadata__"
LENGTH_BYTES = 8
LARGEST_HEADER = 100_000_000
"""The format's own limit: if the length field exceeds it, the file is not safetensors."""
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 48

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1}
    | {"U16": 2, "I16": 2, "F16": 2, "BF16": 2}
    | {"U32": 4, "I32": 4, "F32": 4}
    | {"U64": 8, "I64": 8, "F64": 8, "C64": 8}
)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file; `start` and `stop` are byte positions in the file, not in its data part."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """The parsed header: every tensor by name, the free metadata, and where the data begins."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int


def read_header(file: BinaryIO, *, max_bytes: int) -> Header:
    """Read and check the header of an open safetensors file, from its start.

    Raises:
        ArtifactError: not a safetensors file, a header above `max_bytes`, or an index that contradicts itself or the
            file's size: duplicate keys, unknown dtypes, ranges that overlap, leave gaps or miss the end.
    """
    size = os.fstat(file.fileno()).st_size
    faults = FaultList()
    index = _parse_index(_read_index_bytes(file, size, max_bytes))
    metadata = _metadata(index.pop(METADATA_ENTRY, {}), faults)
    data_start = file.tell()
    entries = [entry for name, raw in index.items() if (entry := _entry(name, raw, data_start, faults)) is not None]
    # If an entry was refused already, gaps in the ranges would only repeat that fault.
    if len(entries) == len(index):
        _check_ranges(entries, data_start, size, faults)
    faults.raise_if_any()
    return Header(MappingProxyType({entry.name: entry for entry in entries}), MappingProxyType(metadata), data_start)


def _refuse(reason: str) -> ArtifactError:
    return ArtifactError([ArtifactFault(None, reason)])


def _read_index_bytes(file: BinaryIO, size: int, max_bytes: int) -> bytes:
    file.seek(0)
    start = file.read(SNIFFED_BYTES)
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or length > LARGEST_HEADER:
        raise _refuse(foreign_file(start, size))
    if length > max_bytes:
        raise _refuse(f"the header is {length} bytes long, more than the limit of {max_bytes}")
    file.seek(LENGTH_BYTES)
    data = file.read(length)
    if len(data) < length:
        raise _refuse(
            f"the file is truncated: its header is {length} bytes long, and only {len(data)} of them are there"
        )
    return data


def _parse_index(data: bytes) -> dict[str, object]:
    try:
        index = parse_strict(data)
    except ValueError as error:
        raise _refuse(f"the header is not valid JSON: {quoted(str(error))}") from None
    if not _is_object(index):
        raise _refuse("the header is not a JSON object")
    return index


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _metadata(raw: object, faults: FaultList) -> dict[str, str]:
    if not _is_object(raw):
        faults.add("the header's __metadata__ is not an object of strings")
        return {}
    metadata = {key: value for key, value in raw.items() if isinstance(value, str)}
    if len(metadata) < len(raw):
        faults.add("the header's __metadata__ is not an object of strings")
    return metadata


def _entry(name: str, raw: object, data_start: int, faults: FaultList) -> TensorEntry | None:
    if not _is_object(raw) or raw.keys() != {"dtype", "shape", "data_offsets"}:
        faults.add("its header entry is not an object of dtype, shape and data_offsets", name)
        return None
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        faults.add(f"dtype {quoted(str(dtype))} is not known", name)
        return None
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        faults.add(f"its shape is not a list of at most {MAX_DIMENSIONS} sizes", name)
        return None
    if not _is_sizes(offsets) or len(offsets) != 2:
        faults.add("its data_offsets are not two byte positions", name)
        return None
    start, stop = offsets
    expected = prod(shape) * DTYPE_BYTES[dtype]
    if stop - start != expected:
        faults.add(f"{dtype} {list(shape)} takes {expected} bytes, its data_offsets span {stop - start}", name)
        return None
    return TensorEntry(name, dtype, tuple(shape), data_start + start, data_start + stop)


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_DIMENSION for item in value)


def _check_ranges(entries: list[TensorEntry], data_start: int, size: int, faults: FaultList) -> None:
    """Check that the tensors fill the data part exactly, each byte once, as the format demands."""
    position = data_start
    for entry in sorted(entries, key=lambda item: (item.start, item.stop)):
        if entry.start < position:
            faults.add(f"its bytes overlap {position - entry.start} bytes of another tensor", entry.name)
        elif entry.start > position:
            faults.add(f"{entry.start - position} unused bytes lie before it", entry.name)
        position = max(position, entry.stop)
    if position > size:
        faults.add(f"the file is truncated: its last {position - size} bytes are missing")
    elif position < size:
        faults.add(f"{size - position} bytes follow the last tensor")
