import stat
from pathlib import Path

import pytest

from headmix_server.app.data_folder import LONGEST_RUN_FOLDER, open_data_folder, run_folder
from headmix_server.app.errors import SettingError, StartError


def test_the_run_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with open_data_folder(tmp_path / "data") as folder:
        assert stat.S_IMODE(folder.run.stat().st_mode) == 0o700
        (folder.run / "engine.sock").touch()
    assert not folder.run.exists()
    assert folder.root.is_dir()


def test_a_second_server_on_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with open_data_folder(tmp_path) as folder:
        with pytest.raises(StartError, match="another headmix server"), open_data_folder(tmp_path):
            pass
        assert folder.run.is_dir()
    with open_data_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["data", "d" * LONGEST_RUN_FOLDER], ids=["inside", "in the system's temp"])
def test_what_a_killed_server_left_is_replaced(tmp_path: Path, name: str) -> None:
    left = run_folder(tmp_path / name)
    left.mkdir(parents=True)
    (left / "engine-1.sock").touch()
    with open_data_folder(tmp_path / name) as folder:
        assert folder.run == left
        assert list(folder.run.iterdir()) == []
    assert not left.exists()


def test_sockets_of_a_deep_data_folder_go_where_their_paths_fit(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * LONGEST_RUN_FOLDER)
    with open_data_folder(deep) as folder:
        assert len(str(folder.run)) <= LONGEST_RUN_FOLDER
        assert stat.S_IMODE(folder.run.stat().st_mode) == 0o700
    assert not folder.run.exists()


def test_a_data_folder_that_is_a_file_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="is none: it is no folder"), open_data_folder(tmp_path / "file"):
        pass
