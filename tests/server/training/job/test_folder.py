import stat
from pathlib import Path

from headmix_server.training.job.folder import private_folder, remove_leftovers


def test_a_jobs_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with private_folder(tmp_path / "training") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "rows.jsonl").write_text("secret")
    assert list((tmp_path / "training").iterdir()) == []


def test_only_the_folders_of_workers_that_are_gone_are_leftovers(tmp_path: Path) -> None:
    left = tmp_path / "job-left"
    left.mkdir()
    (left / ".lock").write_bytes(b"")
    (tmp_path / "job-new").mkdir()
    with private_folder(tmp_path) as held:
        assert remove_leftovers(tmp_path) == 1
        assert held.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["job-new"]
