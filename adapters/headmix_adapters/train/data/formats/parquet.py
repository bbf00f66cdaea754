"""Parquet files by pyarrow, which is an extra: a few rows at a time. Places are numbers of rows, from 1.

A row group that claims to be large is refused: the library decodes much of one at once.
"""

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from headmix_adapters.train.data.formats.entry import Entry, UnreadableError, named_twice

_ROWS = 16
_GROUP_BYTES = 2**30


def parquet_rows(path: Path, longest: int) -> Iterator[Entry]:
    """Yield the rows; a null is a field that holds nothing.

    Raises:
        UnreadableError: the extra is not installed, or the file is not Parquet, damaged, or has a column twice.
    """
    parquet, arrow = _pyarrow()
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            if (twice := _duplicate(file.schema_arrow)) is not None:
                raise UnreadableError(f"column {twice!r} appears twice")
            for group in range(file.num_row_groups):
                if (size := file.metadata.row_group(group).total_byte_size) > _GROUP_BYTES:
                    raise UnreadableError(f"row group {group} has {size:,} bytes, more than {_GROUP_BYTES:,}")
            for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                share = batch.nbytes / max(batch.num_rows, 1)
                for fields in batch.to_pylist() if share <= longest else ({},) * batch.num_rows:
                    number += 1
                    too_long = "" if share <= longest else f"the rows from here are longer than {longest:,} bytes"
                    yield Entry(number, None if too_long else fields, too_long)
    except (arrow.ArrowException, OSError) as error:
        raise UnreadableError(f"not a readable Parquet file: {error}") from error


def _duplicate(schema: Iterable[Any]) -> str | None:
    """Return the path of a column or nested field that appears twice, of which only the last would be read."""
    pending = [("", list(schema))]
    while pending:
        within, fields = pending.pop()
        if (twice := named_twice([field.name for field in fields])) is not None:
            return f"{within}{twice}"
        for field in fields:
            inner = [field.type.field(number) for number in range(field.type.num_fields)]
            pending.append((f"{within}{field.name}.", inner))
    return None


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        return importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow.lib")
    except ImportError as error:
        raise UnreadableError("Parquet needs pyarrow: pip install 'headmix[parquet]'") from error
