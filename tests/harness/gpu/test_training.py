import json
from pathlib import Path

import msgspec
import pytest

from harness.gpu import training
from harness.gpu.training import FORMS, Form, TimedLog, Trained, main, problems, run_forms
from headmix_adapters.train.history.events import Scored, Step

ON_CPU = Trained("sha256:1", "cpu", 500.0, 1000, (4.0, 3.0), 2.3, 1.6)
ON_GPU = msgspec.structs.replace(ON_CPU, digest="sha256:2", device="cuda", step_ms=150.0)


def trained() -> dict[str, Trained]:
    return {form.name: ON_GPU if form.on_gpu else ON_CPU for form in FORMS}


def test_trainings_that_learned_where_they_should_are_sound() -> None:
    assert problems(trained()) == []


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("gpu-bfloat16", {"device": "cpu"}, "gpu-bfloat16 was trained on cpu"),
        ("cpu-float32", {"adapter_nll": 2.3}, "cpu-float32 learned nothing: 2.3000 before, 2.3000 after"),
        ("gpu-float32", {"adapter_nll": float("nan")}, "gpu-float32 learned nothing: 2.3000 before, nan after"),
        ("gpu-bfloat16-again", {"digest": "sha256:3"}, "gpu-bfloat16: the same training gave another file"),
    ],
)
def test_what_is_wrong_with_a_training_is_said(name: str, change: dict[str, object], problem: str) -> None:
    results = trained()
    results[name] = msgspec.structs.replace(results[name], **change)
    assert problem in problems(results)


def test_a_training_that_ended_without_a_result_has_failed() -> None:
    results = trained()
    del results["gpu-bfloat16-packed"]
    assert problems(results) == ["gpu-bfloat16-packed failed"]


def test_each_form_is_trained_in_a_process_that_sees_the_gpu_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        '#!/bin/sh\nfor each in "$@"; do case $each in --form=*)\n'
        f"""echo '{msgspec.json.encode(ON_GPU).decode()}' | sed "s/sha256:2/seen:$CUDA_VISIBLE_DEVICES/"\n"""
        ";; esac; done\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    for on_gpu, seen in ((True, "seen:3"), (False, "seen:")):
        forms = [form for form in FORMS if form.on_gpu == on_gpu]
        results = run_forms(forms, 2)
        assert {name: each.digest for name, each in results.items()} == {form.name: seen for form in forms}


def test_the_last_line_has_every_result_and_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(forms: list[Form], steps: int) -> dict[str, Trained]:
        return {form.name: trained()[form.name] for form in forms if form.name != "gpu-float32"}

    monkeypatch.setattr(training, "run_forms", run)
    monkeypatch.setattr("sys.argv", ["training"])
    assert main() == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["wrong"] == ["gpu-float32 failed"]
    assert line["cpu-float32"]["losses"] == [4.0, 3.0]


def test_the_time_of_every_step_is_known(tmp_path: Path) -> None:
    log = TimedLog(tmp_path / "events")
    for number in (1, 2):
        log.write(Step(step=number, epoch=0.1, train_loss=2.0, learning_rate=0.1, tokens=10))
        log.write(Scored(step=number, epoch=0.1, train_loss=2.0, valid_loss=2.0, score=2.0, scores={}))
    log.close()
    assert len(log.times) == 2
    assert len((tmp_path / "events").read_bytes().splitlines()) == 4
