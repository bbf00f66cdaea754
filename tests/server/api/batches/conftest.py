"""A server and its batches."""

from pathlib import Path

import pytest

from harness.server.api_rig import ApiRig
from harness.server.batch_rig import BatchRig


@pytest.fixture
def rig_settings(database_url: str) -> dict[str, str]:
    return {"database": database_url}


@pytest.fixture
def batches(rig: ApiRig, tmp_path: Path) -> BatchRig:
    rig.says("fine")
    return BatchRig(rig, tmp_path / "work")
