import socket
from pathlib import Path

import pytest

from harness.bases.tiny_model import make_tiny_llama
from headmix_server.core.settings.settings import Settings
from headmix_server.database import open_database
from headmix_server.training.control import Control
from headmix_server.training.run import FAILED, OK, WRONG_SETTING, WorkerRun, run_worker


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_tiny_llama(folder)
    return folder


def run(how: WorkerRun | None = None, **settings: object) -> int:
    return run_worker(Settings(**settings), Control(), how or WorkerRun(until_idle=0.0))  # type: ignore[arg-type]


def test_a_worker_runs_on_a_servers_data_folder_until_it_is_idle(base: Path, tmp_path: Path) -> None:
    open_database(tmp_path / "data" / "headmix.db").dispose()
    assert run(base=str(base), data_dir=tmp_path / "data", train_claim_seconds=2) == OK


def test_a_folder_without_a_database_is_refused_and_stays_empty(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(base=str(base), data_dir=tmp_path / "data") == WRONG_SETTING
    assert "--data-dir" in capsys.readouterr().err
    assert not (tmp_path / "data" / "headmix.db").exists()


def test_an_unknown_base_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(base="nothing-of-this-name.gguf", data_dir=tmp_path) == WRONG_SETTING
    assert "--base" in capsys.readouterr().err


def test_a_database_with_another_schema_is_left_alone(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_database(tmp_path / "data" / "headmix.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0008'")
    engine.dispose()
    assert run(base=str(base), data_dir=tmp_path / "data") == FAILED
    assert "schema version 0008" in capsys.readouterr().err


def test_a_port_in_use_is_named(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_database(tmp_path / "data" / "headmix.db").dispose()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        how = WorkerRun(until_idle=0.0, metrics=listener.getsockname()[:2])
        assert run(how, base=str(base), data_dir=tmp_path / "data") == FAILED
    assert "--metrics-port" in capsys.readouterr().err


def test_a_machine_without_the_packages_says_what_to_install(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headmix_server.training.options.find_spec", lambda _: None)
    assert run(base=str(base), data_dir=tmp_path / "data") == FAILED
    assert "headmix[train]" in capsys.readouterr().err
