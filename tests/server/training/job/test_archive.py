from pathlib import Path

from headmix_server.training.job.archive import pack, unpack

RUN_FOLDER = "kingjames.checkpoints"


def run_folder(folder: Path, *steps: int) -> Path:
    run = folder / RUN_FOLDER
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "lock").write_text("")
    for step in steps:
        (run / f"checkpoint-{step}").mkdir()
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text(str(step))
    return run


def test_a_runs_folder_comes_back_as_it_was_after_a_step_without_its_lock(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", 3, 5, 7)
    assert pack(tmp_path / "a" / RUN_FOLDER, 5, tmp_path / "state.tar")
    unpack(tmp_path / "state.tar", tmp_path / "b")
    found = sorted(str(path.relative_to(tmp_path / "b" / RUN_FOLDER)) for path in (tmp_path / "b").rglob("*.json"))
    assert found == ["checkpoint-3/trainer_state.json", "checkpoint-5/trainer_state.json", "run.json"]
    assert not (tmp_path / "b" / RUN_FOLDER / "lock").exists()


def test_a_checkpoint_that_the_run_has_removed_meanwhile_is_not_packed(tmp_path: Path) -> None:
    run_folder(tmp_path, 7)
    assert not pack(tmp_path / RUN_FOLDER, 5, tmp_path / "state.tar")
    assert not pack(tmp_path / "nowhere", 5, tmp_path / "state.tar")
