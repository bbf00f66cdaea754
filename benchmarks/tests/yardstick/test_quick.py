"""The whole yardstick on tiny models: every contender runs, and every figure of a full run is present."""

import json

import pytest

from benchmarks.yardstick.__main__ import main
from benchmarks.yardstick.measurements.table import MEASUREMENTS
from benchmarks.yardstick.results.goals import GOALS
from harness.adapters.peft_lora import RENAMED

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)  # half a minute of computing, with its own servers
@pytest.mark.filterwarnings(RENAMED)
@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*")
def test_the_quick_run_measures_everything_and_ends_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick"]) == 0
    out, err = capsys.readouterr()
    line = json.loads(out.splitlines()[-1])
    assert set(line) == {"machine", *(goal.key for goal in GOALS)}
    assert "cannot run" not in err
    assert all(f"{name}:" in err for name, measurement in MEASUREMENTS.items() if measurement.rival is None)
    rivals = [name for name, measurement in MEASUREMENTS.items() if measurement.rival is not None]
    assert f"left out: {', '.join(rivals)}" in err
    measured = {name for name, value in line.items() if value is not None}
    beside = {key for key in line if "vllm" in key or "llama" in key}
    smaller = {key for key in line if "ours16" in key} | {"zipf1000_over_resident16"}
    assert line.keys() - measured == beside | smaller  # the quick run has fewer adapters
