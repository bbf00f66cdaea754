"""One base folder for all tests of the API, and one running server for each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api_rig import ApiRig, api_rig
from tests.support.base_folder import write_base_folder


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base_folder(tmp_path_factory.mktemp("api") / "base")


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path) as running:
        yield running
