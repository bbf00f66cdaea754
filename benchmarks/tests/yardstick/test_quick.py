"""The whole yardstick on tiny models: every contender runs, every figure that a full run has is there."""

import json

import pytest

from benchmarks.yardstick.__main__ import MEASUREMENTS, main
from benchmarks.yardstick.results.goals import GOALS
from harness.adapters.peft_lora import RENAMED


@pytest.mark.filterwarnings(RENAMED)
@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*")
def test_the_quick_run_measures_everything_and_ends_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick"]) == 0
    out, err = capsys.readouterr()
    line = json.loads(out.splitlines()[-1])
    assert set(line) == {"machine", *(goal.key for goal in GOALS)}
    assert "cannot run" not in err
    assert all(f"{name}:" in err for name in MEASUREMENTS)
    measured = {name for name, value in line.items() if value is not None}
    of_sixteen = {
        "ours16_over_ours0",
        "ours16_over_peft16",
        "ours16_int8_over_peft16",
    }  # the quick run has fewer adapters
    assert line.keys() - measured == {"ours0_over_vllm"} | of_sixteen
