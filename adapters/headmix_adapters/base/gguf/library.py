"""The `gguf` library as transformers uses it while it converts one file: read once instead of six times, and watched.

Reading a file takes seconds, most of it the vocabulary, and transformers does it for the config, the weights and the
tokenizer each; it also builds the table of tensor names anew for every module of the model. For SmolLM2-135M these two
are 27 of 40 seconds.
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
    """Give the file's reader, which meanwhile is what every reading of `path` gets.

    `on_tensor` hears what share of the tensors has been dequantized. For a process that converts and does nothing else:
    the library is changed for all of it until the end.
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
    """Set what transformers imports from the library whenever it needs it."""
    vars(gguf).update(GGUFReader=reader, dequantize=dequantize, get_tensor_name_map=name_map)
