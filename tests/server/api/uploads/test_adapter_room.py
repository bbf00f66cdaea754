"""An adapter that this server's memory could never hold is refused at upload, with the setting to change."""

from pathlib import Path

import msgspec
import pytest
import torch

from harness.adapters.artifacts import random_artifact
from harness.server.api_rig import ApiRig
from headmix_adapters.artifact import open_artifact


@pytest.mark.parametrize("tier", ["device", "host"])
@pytest.mark.parametrize(("dtype", "width"), [(torch.bfloat16, 2), (torch.float32, 4)])
async def test_what_no_tier_can_hold_is_refused_and_not_stored(
    rig: ApiRig, tmp_path: Path, tier: str, dtype: torch.dtype, width: int
) -> None:
    random_artifact(tmp_path / "a", rig.state.base.shape, dtype=dtype)
    size, content = open_artifact(tmp_path / "a").num_parameters * width, (tmp_path / "a").read_bytes()
    ready = rig.state.engine.ready
    assert ready is not None
    setting = {"device": "--adapter-memory-mib", "host": "--host-adapter-mib"}[tier]
    for budget, status in ((size - 1, 422), (size, 201)):
        rig.state.engine.ready = msgspec.structs.replace(ready, **{f"{tier}_adapter_bytes": budget})
        response = await rig.client.post("/v1/adapters", data={"name": "large"}, files={"file": content})
        assert response.status_code == status, response.text
        if status == 422:
            error = response.json()["error"]
            assert (error["code"], error["param"], setting in error["message"]) == ("adapter_too_large", "file", True)
            assert (await rig.client.get("/v1/adapters")).json()["data"] == []


async def test_numbers_are_as_wide_as_the_device_keeps_them(rig: ApiRig, tmp_path: Path) -> None:
    random_artifact(tmp_path / "a", rig.state.base.shape, dtype=torch.float32)
    numbers = open_artifact(tmp_path / "a").num_parameters
    ready = rig.state.engine.ready
    assert ready is not None
    changed = msgspec.structs.replace(ready, device_adapter_bytes=2 * numbers, adapter_number_bytes=2)
    rig.state.engine.ready = changed
    files = {"file": (tmp_path / "a").read_bytes()}
    assert (await rig.client.post("/v1/adapters", data={"name": "large"}, files=files)).status_code == 201
