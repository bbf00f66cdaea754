"""A server and its batches."""

from pathlib import Path

import pytest

from harness.server.api_rig import ApiRig
from harness.server.batch_rig import BatchRig
from headmix_server.batches import run, runner


@pytest.fixture
def rig_settings(database_url: str) -> dict[str, str]:
    return {"database": database_url}


@pytest.fixture
def batches(rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchRig:
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(run, "BEAT_SECONDS", 0.2)
    rig.says("fine")
    return BatchRig(rig, tmp_path / "work")
