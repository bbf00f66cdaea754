"""A server and its batches."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.server.api_rig import ApiRig, api_rig
from harness.server.batch_rig import BatchRig
from headmix_server.batches import run, runner


@pytest.fixture
def rig_settings(database_url: str) -> dict[str, str]:
    return {"database": database_url}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have batches look for work sooner than beside other requests."""
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(run, "BEAT_SECONDS", 0.2)


@pytest.fixture
def batches(rig: ApiRig, tmp_path: Path) -> BatchRig:
    rig.says("fine")
    return BatchRig(rig, tmp_path / "work")


@pytest.fixture
async def narrow(base_folder: Path, tmp_path: Path, rig_settings: dict[str, str]) -> AsyncIterator[BatchRig]:
    """Batches of which one line is open at a time."""
    async with api_rig(base_folder, tmp_path, settings={**rig_settings, "batch_window": 1}) as rig:
        rig.says("x")
        yield BatchRig(rig, tmp_path / "work")
