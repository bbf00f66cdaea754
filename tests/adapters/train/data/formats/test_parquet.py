"""Parquet files are read a few rows at a time, and carry what JSON Lines carry."""

import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from headmix_adapters.train.data.checks.check import check_file
from headmix_adapters.train.data.formats import parquet as module
from headmix_adapters.train.data.forms.training_rows import read_training_rows
from headmix_adapters.train.data.rows import read_rows
from headmix_adapters.train.errors import DataError


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_rows_are_those_that_were_written_by_number(tmp_path: Path) -> None:
    given = [{"text": f"text {number}", "label": number % 3} for number in range(50)]
    rows = read_rows(write(tmp_path / "a.parquet", given))
    assert [row.fields for row in rows] == given
    assert [row.place.rpartition(":")[2] for row in rows] == [str(number) for number in range(1, 51)]


def test_nested_messages_are_read_and_nulls_hold_nothing(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 1}]
    path = write(tmp_path / "a.parquet", [{"messages": turns, "tools": None}])
    (row,) = read_training_rows(path, None, ()).rows
    assert row.fields["messages"][0] == {"role": "user", "content": "x", "weight": None}
    assert check_file(path).ok


def test_long_rows_and_row_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", [{"text": "x" * 5_000_000, "label": "a"}])
    with pytest.raises(DataError, match=r"a\.parquet:1: the rows from here are longer than 4,194,304 bytes"):
        read_rows(path)
    monkeypatch.setattr(module, "_GROUP_BYTES", 1000)
    with pytest.raises(DataError, match=r"row group 0 has .* bytes"):
        read_rows(write(tmp_path / "b.parquet", [{"text": f"{number}" * 100} for number in range(100)]))


def test_what_is_no_parquet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_rows(path)
    with pytest.raises(DataError, match="No such file"):
        read_rows(tmp_path / "gone.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"Parquet needs pyarrow: pip install 'headmix\[parquet\]'"):
        read_rows(path)


@pytest.mark.parametrize(
    ("names", "types", "fault"),
    [
        (["text", "label", "label"], [pyarrow.string()] * 3, "column 'label' appears twice"),
        (
            ["text", "messages"],
            [pyarrow.string(), pyarrow.list_(pyarrow.struct([("role", pyarrow.string())] * 2))],
            "column 'messages.element.role' appears twice",
        ),
    ],
)
def test_a_column_or_nested_field_that_appears_twice_is_refused(
    tmp_path: Path, names: list[str], types: list[Any], fault: str
) -> None:
    path = tmp_path / "a.parquet"
    columns = [pyarrow.nulls(2, kind) for kind in types]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=names), path)
    with pytest.raises(DataError, match=fault):
        read_rows(path)
    assert not check_file(path).ok
