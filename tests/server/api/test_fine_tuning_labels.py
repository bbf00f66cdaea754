"""Fine-tuning jobs on a server whose adapters may have few labels: known before anything is trained."""

import pytest

from harness.server.api_rig import BASE, ApiRig
from tests.server.api.test_fine_tuning import TEXTS, URL, check_all, create, get, jsonl, upload


@pytest.fixture
def rig_settings() -> dict[str, str]:
    return {"max_labels": "1"}


async def test_more_labels_than_an_adapter_may_have_are_refused_with_the_setting(rig: ApiRig) -> None:
    body = {"model": BASE, "training_file": upload(rig, jsonl(TEXTS)), "headmix": {"labels": ["even", "odd"]}}
    error = (await rig.client.post(URL, json=body)).json()["error"]
    assert error["param"] == "headmix.labels"
    assert "--max-labels" in error["message"]


async def test_a_file_with_more_labels_than_an_adapter_may_have_is_refused_with_the_line(rig: ApiRig) -> None:
    job = await create(rig, training_file=upload(rig, jsonl(TEXTS)))
    await check_all(rig)
    assert (await get(rig, job))["error"]["message"].startswith("data.jsonl: line 2: more than 1 different labels")
