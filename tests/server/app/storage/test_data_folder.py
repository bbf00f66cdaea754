import shutil
import stat
from pathlib import Path

import pytest

from headmix_server.app.errors import SettingError, StartError
from headmix_server.app.storage.data_folder import LONGEST_RUN_FOLDER, open_data_folder, run_folder


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


def test_a_data_folder_that_is_a_file_is_reported_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="file: it is not a folder"), open_data_folder(tmp_path / "file"):
        pass


def test_a_place_is_one_folder_on_one_machine_whatever_it_is_called(tmp_path: Path) -> None:
    places = []
    for name in ("a", "b", "a"):
        with open_data_folder(tmp_path / name) as folder:
            places.append(folder.place)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_data_folder(tmp_path / "link") as folder:
        places.append(folder.place)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with open_data_folder(tmp_path / "copy") as folder:
        places.append(folder.place)
    first, other, again, linked, copied = places
    assert first == again == linked != ""
    assert len({first, other, copied}) == 3


def test_without_a_boot_id_from_the_system_there_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headmix_server.app.storage.data_folder.BOOT_ID", tmp_path / "missing")
    with open_data_folder(tmp_path / "a") as folder:
        assert folder.place == ""
