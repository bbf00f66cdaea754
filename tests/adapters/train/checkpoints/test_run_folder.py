"""A run locks its folder against others, and leaves nothing behind before its first checkpoint."""

import os
from pathlib import Path

import pytest

from headmix_adapters.artifact import digest_file
from headmix_adapters.train.checkpoints.run_folder import RunFolder, RunIdentity, RunRecord
from headmix_adapters.train.errors import TargetError, TrainError
from headmix_adapters.train.scoring.evaluate import Evaluation

IDENTITY = RunIdentity(recipe="r", train_data="t", eval_data="e", base="b")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "adapters" / "a.safetensors")


def checkpoint(folder: RunFolder, step: int) -> None:
    path = folder.path / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text("{}")


def test_two_runs_cannot_train_into_one_place(folder: RunFolder) -> None:
    with folder.locked():
        with pytest.raises(TargetError, match="another run is writing to"), RunFolder(folder.artifact).locked():
            pass
        assert folder.path.is_dir()
    assert not folder.path.exists()
    with folder.locked():
        checkpoint(folder, 3)
    assert folder.last_checkpoint() == folder.path / "checkpoint-3"


def test_what_a_run_noted_is_what_its_continuation_reads(folder: RunFolder) -> None:
    alone = Evaluation({"accuracy": 0.5}, {"up": 0.25})
    record = RunRecord(identity=IDENTITY, base=alone, replaces="sha256:0")
    with folder.locked():
        folder.start(record)
        checkpoint(folder, 3)
    assert folder.resume(IDENTITY) == (folder.path / "checkpoint-3", record)
    with pytest.raises(TrainError, match="another recipe"):
        folder.resume(RunIdentity(recipe="other", train_data="t", eval_data="e", base="b"))
    for damaged in (b"{", b'{"identity": "\xff"}'):
        (folder.path / "run.json").write_bytes(damaged)
        with pytest.raises(TrainError, match=r"run\.json cannot be read"):
            folder.record()


@pytest.mark.parametrize("damaged", [b"{", b'{"log_history": "\xff"}'])
def test_a_checkpoint_whose_state_is_damaged_is_passed_over(folder: RunFolder, damaged: bytes) -> None:
    with folder.locked():
        checkpoint(folder, 3)
        checkpoint(folder, 6)
    (folder.path / "checkpoint-6" / "trainer_state.json").write_bytes(damaged)
    assert folder.last_checkpoint() == folder.path / "checkpoint-3"


def test_an_artifact_that_appeared_during_the_run_is_not_replaced(folder: RunFolder) -> None:
    begun_over_nothing = RunRecord(identity=IDENTITY)
    folder.require_replaceable(begun_over_nothing, force=False)
    folder.artifact.parent.mkdir()
    folder.artifact.write_bytes(b"x")
    with pytest.raises(TargetError, match="was written after this run began"):
        folder.require_replaceable(begun_over_nothing, force=False)
    folder.require_replaceable(begun_over_nothing, force=True)
    folder.require_replaceable(RunRecord(identity=IDENTITY, replaces=digest_file(folder.artifact)), force=False)


def test_a_place_that_takes_no_file_is_refused_before_the_work(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.require_startable(resume=False, force=False)
    assert not folder.path.parent.exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # a test may run as root, which may write anywhere
    with pytest.raises(TargetError, match=f"a.safetensors cannot be written: {tmp_path} is not a writable folder"):
        folder.require_startable(resume=False, force=False)
