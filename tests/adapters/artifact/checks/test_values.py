"""Values are checked bit by bit, for every dtype and wherever chunks end."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_adapters.artifact.checks import values
from headmix_adapters.artifact.faults import ArtifactError, FaultList
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
        values.check_values(file, {entry.name: entry}, faults, scales={})
    magnitudes, of_float32 = tensor.to(torch.float64).abs(), torch.finfo(torch.float32)
    sound = bool((magnitudes <= of_float32.max).all()) and bool((magnitudes >= of_float32.tiny).any())
    assert len(faults) == (0 if sound else 1)


def test_a_file_that_shrinks_while_it_is_read_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(bytes(10))
    entry = TensorEntry("layers.0.q.head.bias", "F32", (8,), 8, 40)
    with path.open("rb") as file, pytest.raises(OSError, match="shrank"):
        values.check_values(file, {entry.name: entry}, FaultList(), scales={})


@pytest.mark.parametrize("dtype", ["F32", "F64", "BF16"])
@pytest.mark.parametrize(
    ("magnitude", "scale", "fault"),
    [
        (1e-40, 1.0, "zero effect"),
        (1e-20, 1e-20, "zero effect"),
        (1e-20, -1e-10, None),
        (1e30, 1e10, "times its scale of 1e+10 are not finite in float32"),
        (1e30, -1e10, "times its scale of 1e+10 are not finite in float32"),
        (1e30, 1e5, None),
    ],
)
def test_values_are_judged_as_the_float32_they_become_times_their_scale(
    dtype: str, magnitude: float, scale: float, fault: str | None, tmp_path: Path
) -> None:
    data = torch.tensor([0.0, -magnitude], dtype=torch.float64).to(DTYPES[dtype]).view(torch.uint8).numpy().tobytes()
    path = tmp_path / "values"
    path.write_bytes(data)
    entry = TensorEntry("layers.0.v.shared.bias", dtype, (2,), 0, len(data))
    faults = FaultList()
    with path.open("rb") as file:
        values.check_values(file, {entry.name: entry}, faults, scales={"v.shared": scale, "q.head": 0.0})
    if fault is None:
        assert not len(faults)
    else:
        with pytest.raises(ArtifactError, match=re.escape(fault)):
            faults.raise_if_any()


def test_an_a_that_its_terms_scale_does_not_touch_is_judged_alone(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(torch.tensor([1e30, 1e-20], dtype=torch.float32).numpy().tobytes())
    tensors = {
        "layers.0.q.head.A": TensorEntry("layers.0.q.head.A", "F32", (1,), 0, 4),
        "layers.0.q.head.B": TensorEntry("layers.0.q.head.B", "F32", (1,), 4, 8),
    }
    faults = FaultList()
    with path.open("rb") as file:
        values.check_values(file, tensors, faults, scales={"q.head": 1e15})
    assert not len(faults)
