import json
from pathlib import Path

import pytest

from harness.gpu import proof
from harness.gpu.proof import Stage, last_json, main, run_stage, stages


def test_a_stage_that_fails_or_hangs_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [
        Stage("broken", ("-c", "print('so far'); raise SystemExit(3)"), 30),
        Stage("endless", ("-c", "import time; time.sleep(60)"), 1),
        Stage("sound", ("-c", "print('{\"ms\": 2.5}')"), 30),
    ]
    monkeypatch.setattr(proof, "stages", lambda: made)
    monkeypatch.setattr("sys.argv", ["proof", "--out", str(tmp_path)])
    assert main() == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: (each["status"], each["figures"]) for name, each in line.items()} == {
        "broken": (3, None),
        "endless": (None, None),
        "sound": (0, {"ms": 2.5}),
    }
    assert "so far" in (tmp_path / "broken.txt").read_text(encoding="utf-8")


def test_a_stage_sees_the_gpu_as_the_device(tmp_path: Path) -> None:
    stage = Stage("device", ("-c", "import os, json; print(json.dumps(dict(device=os.environ['HEADMIX_DEVICE'])))"), 30)
    assert run_stage(stage, tmp_path).figures == {"device": "cuda"}


def test_a_stage_of_many_processes_gives_each_few_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    command = ("-c", "import os, json; print(json.dumps(dict(threads=os.environ['OMP_NUM_THREADS'])))")
    for threads, seen in ((2, "2"), (None, "16")):
        assert run_stage(Stage("threads", command, 30, threads=threads), tmp_path).figures == {"threads": seen}


def test_an_unknown_stage_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["proof", "speed"])
    with pytest.raises(SystemExit):
        main()
    assert "no such stage: speed" in capsys.readouterr().err


def test_the_stages_fit_the_time_of_a_short_loan() -> None:
    names = [stage.name for stage in stages()]
    assert names[0] == "tests"
    assert len(set(names)) == len(names)


def test_the_last_line_of_json_is_found_among_others() -> None:
    assert last_json(['{"a": 1}', "{broken", "done"]) == {"a": 1}
    assert last_json(["nothing"]) is None
