"""Values are judged by their bits, whatever the dtype and wherever the chunks end."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_adapters.artifact import values
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.artifact.header import TensorEntry

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.floats(width=64), min_size=1, max_size=40),
    dtype=st.sampled_from(sorted(DTYPES)),
    chunk=st.sampled_from([8, 16, 64, 4096]),
)
def test_the_scan_agrees_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[float], dtype: str, chunk: int
) -> None:
    monkeypatch.setattr(values, "CHUNK_BYTES", chunk)
    tensor = torch.tensor(numbers, dtype=torch.float64).to(DTYPES[dtype])
    data = tensor.view(torch.uint8).numpy().tobytes()
    path = tmp_path / "values"
    path.write_bytes(b"header!!" + data)
    entry = TensorEntry("layers.0.q.head.bias", dtype, (len(numbers),), 8, 8 + len(data))
    faults = FaultList()
    with path.open("rb") as file:
        values.check_values(file, {entry.name: entry}, faults)
    finite = tensor.to(torch.float64).abs() <= torch.finfo(torch.float32).max
    assert len(faults) == (0 if bool(finite.all()) and bool(tensor.any()) else 1)


def test_a_file_that_shrinks_while_it_is_read_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(bytes(10))
    entry = TensorEntry("layers.0.q.head.bias", "F32", (8,), 8, 40)
    with path.open("rb") as file, pytest.raises(OSError, match="shrank"):
        values.check_values(file, {entry.name: entry}, FaultList())
