"""The sampler's benchmark runs on small sizes and ends with one JSON line."""

import json

import pytest

from benchmarks.sampler import KINDS, main


@pytest.mark.parametrize("backend", ["fastest", "torch"])
def test_the_last_line_has_every_kind(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--device", "cpu", "--rows", "1", "3", "--vocabulary", "500", "--rounds", "1", "--backend", backend]
    assert main(sizes) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["milliseconds"].keys() == {f"500, {rows} rows, {kind}" for rows in (1, 3) for kind in KINDS}
    assert all(0 < least <= middle for middle, least in found["milliseconds"].values())
