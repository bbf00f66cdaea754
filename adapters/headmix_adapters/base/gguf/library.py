"""Patches the `gguf` library while transformers converts a file: reads it once instead of six times, reports progress.

Reading a file takes seconds, most of it for the vocabulary, and transformers reads it separately for the config, the
weights and the tokenizer; it also rebuilds the table of tensor names for every module of the model. For SmolLM2-135M
the two together take 27 of 40 seconds.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy.typing as npt

Array = npt.NDArray[Any]


@contextmanager
def opened_once(path: Path, on_tensor: Callable[[float], None]) -> Iterator[gguf.GGUFReader]:
    """Yield the file's reader; within the block, everything that opens `path` gets this reader.

    `on_tensor` is called with the share of tensors dequantized so far. Only for a process that converts and does
    nothing else: until the block ends the library is patched for the whole process.
    """
    open_file, dequantize, name_map = gguf.GGUFReader, gguf.dequantize, gguf.get_tensor_name_map
    reader = open_file(path)
    total, count = len(reader.tensors), 0

    def open_known(wanted: str | Path) -> gguf.GGUFReader:
        return reader if Path(wanted) == path else open_file(wanted)

    def dequantize_and_tell(data: Array, kind: gguf.GGMLQuantizationType) -> Array:
        nonlocal count
        count += 1
        on_tensor(min(1.0, count / total))
        return dequantize(data, kind)

    _replace(open_known, dequantize_and_tell, functools.cache(name_map))
    try:
        yield reader
    finally:
        _replace(open_file, dequantize, name_map)


def _replace(reader: object, dequantize: object, name_map: object) -> None:
    """Replace the names that transformers imports from the library each time it needs them."""
    vars(gguf).update(GGUFReader=reader, dequantize=dequantize, get_tensor_name_map=name_map)
