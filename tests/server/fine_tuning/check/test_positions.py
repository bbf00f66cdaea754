"""A job's texts are no longer than its base's positions: by default without being asked, and else refused."""

import json
from pathlib import Path

import pytest

from harness.bases.families import FAMILIES
from headmix_adapters.base import base_positions, resolve_base
from headmix_server.fine_tuning.check.data import check_data
from headmix_server.fine_tuning.request import DataFile, FineTuning


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_default_length_is_lowered_to_the_positions_and_a_longer_one_is_refused(
    family: str, tmp_path: Path
) -> None:
    FAMILIES[family].make(tmp_path / "base")
    rows = [{"text": f"the fox {number}", "label": ("even", "odd")[number % 2]} for number in range(12)]
    (tmp_path / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = resolve_base(str(tmp_path / "base"))
    positions = base_positions(base)
    assert positions is not None
    file = DataFile(id="file-1", digest="sha256:1", filename="rows.jsonl", size_bytes=1)
    found = {}
    for length in (None, positions, positions + 1):
        request = FineTuning(
            name="n", base="b", fingerprint="sha256:0", training=file, seed=1, actor="key_1", max_length=length
        )
        found[length] = check_data(request, tmp_path, base, most_labels=4096)
    for length in (None, positions):
        asked = found[length].request
        assert asked is not None
        assert asked.recipe is not None
        assert asked.recipe.data.max_length == positions
    error = found[positions + 1].error
    assert error is not None
    assert (error.param, error.message) == (
        "headmix",
        f"max_length is {positions + 1}, but base has {positions} positions",
    )
