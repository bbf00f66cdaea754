import stat
from pathlib import Path

import pytest

from headmix_server.tenancy.keys.admin_key import FILE_NAME, read_admin_key, write_admin_key
from tests.support.storage.crash import Crash, crash_at


def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    write_admin_key(tmp_path, "hm_one")
    assert read_admin_key(tmp_path) == "hm_one"
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_no_file_is_no_key(tmp_path: Path) -> None:
    assert read_admin_key(tmp_path) is None


def test_a_file_of_something_else_can_be_read_without_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\x00")
    assert read_admin_key(tmp_path) is not None


def test_a_crash_leaves_the_former_file_or_the_new_one(tmp_path: Path) -> None:
    write_admin_key(tmp_path, "hm_old")
    for call in range(1, 50):
        try:
            with crash_at(call):
                write_admin_key(tmp_path, "hm_new")
        except Crash:
            assert read_admin_key(tmp_path) in {"hm_old", "hm_new"}
        else:
            break
    else:
        pytest.fail("writing never ended")
    assert read_admin_key(tmp_path) == "hm_new"
