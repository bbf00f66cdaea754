"""/v1/moderations, answered by the adapter that the operator has named, or by one of the tenant's own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from harness.server.api_rig import OTHER_TENANT, TENANT, ApiRig, api_rig
from headmix_server.core.messages import Classify

URL = "/v1/moderations"
LABELS = ("hate", "spam")
OWNER = "operator"


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    """A server whose operator has named an adapter of a third tenant."""
    async with api_rig(base_folder, tmp_path, settings={"moderation_adapter": f"{OWNER}/harm"}) as running:
        running.engine.probs = [0.97, 0.02]
        yield running


async def ask(rig: ApiRig, **body: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json={"input": "What a day", **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refusal(rig: ApiRig, **body: Any) -> tuple[int, str, str | None, str]:
    response = await rig.client.post(URL, json={"input": "What a day", **body})
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"], error["message"]


async def test_the_operators_adapter_answers_every_tenant_without_being_shared(rig: ApiRig) -> None:
    version = rig.publish("harm", tenant=OWNER, labels=LABELS, problem="multi_label")
    for client in (rig.client, rig.other):
        response = await client.post(URL, json={"input": "What a day"})
        assert response.status_code == 200, response.text
        assert response.json()["results"] == [
            {
                "flagged": True,
                "categories": {"hate": True, "spam": False},
                "category_scores": {"hate": 0.97, "spam": 0.02},
                "category_applied_input_types": {"hate": ["text"], "spam": ["text"]},
            }
        ]
        assert response.json()["model"] == f"{OWNER}/harm"
        assert response.headers["x-headmix-adapter"] == f"{OWNER}/harm@1 {version.digest}"
    assert [message.tenant for message in rig.engine.of(Classify)] == [TENANT, OTHER_TENANT]
    assert {message.adapter.digest for message in rig.engine.of(Classify)} == {version.digest}
    read = await rig.client.post("/v1/classify", json={"model": f"{OWNER}/harm", "input": "a"})
    assert read.status_code == 404  # only moderation is the operator's to offer


async def test_openais_names_mean_the_operators_adapter_and_others_the_tenants_own(rig: ApiRig) -> None:
    rig.publish("harm", tenant=OWNER, labels=LABELS, problem="multi_label")
    rig.publish("mine", labels=LABELS, problem="multi_label")
    assert (await ask(rig, model="omni-moderation-latest"))["model"] == f"{OWNER}/harm"
    assert (await ask(rig, model=None))["model"] == f"{OWNER}/harm"
    assert (await ask(rig, model="mine"))["model"] == "mine"
    assert (await refusal(rig, model="nobody"))[:3] == (404, "model_not_found", "model")


async def test_nothing_is_flagged_below_a_half(rig: ApiRig) -> None:
    rig.publish("harm", tenant=OWNER, labels=LABELS, problem="multi_label")
    rig.engine.probs = [0.49, 0.3]
    (result,) = (await ask(rig))["results"]
    assert (result["flagged"], result["categories"]) == (False, {"hate": False, "spam": False})


async def test_a_list_has_a_result_for_each_text_and_parts_are_one_text(rig: ApiRig) -> None:
    rig.publish("harm", tenant=OWNER, labels=LABELS, problem="multi_label")
    assert len((await ask(rig, input=["a fox", "a dog", "a cat"]))["results"]) == 3
    parts = [{"type": "text", "text": "The quick "}, {"type": "text", "text": "fox"}]
    assert len((await ask(rig, input=parts))["results"]) == 1
    assert rig.engine.of(Classify)[-1].prompt == rig.state.tokenizer.encode("The quick fox")


async def test_an_adapter_that_gives_no_independent_probabilities_is_refused(rig: ApiRig) -> None:
    rig.publish("harm", tenant=OWNER, labels=LABELS)
    status, code, param, message = await refusal(rig)
    assert (status, code, param) == (400, "task_mismatch", "model")
    assert "multi-label" in message


async def test_without_an_adapter_the_error_says_which_setting_names_one(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path) as rig:
        status, code, param, message = await refusal(rig)
        assert (status, code, param) == (404, "model_not_found", "model")
        assert "HEADMIX_MODERATION_ADAPTER" in message


async def test_an_operators_adapter_that_does_not_exist_is_said_to_be_missing(rig: ApiRig) -> None:
    status, code, param, message = await refusal(rig)
    assert (status, code, param) == (404, "model_not_found", "model")
    assert "HEADMIX_MODERATION_ADAPTER" in message


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ([], "input"),
        ("", "input"),
        ([""], "input"),
        (3, "input"),
        (["a", 3], "input.1"),
        (["a"] * 257, "input"),
        ([{"type": "text", "text": "a"}] * 257, "input"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "input.0.type"),
    ],
)
async def test_bad_input_is_named(rig: ApiRig, given: Any, param: str) -> None:
    rig.publish("harm", tenant=OWNER, labels=LABELS, problem="multi_label")
    assert (await refusal(rig, input=given))[2] == param
    assert rig.engine.received == []


async def test_openais_sdk_reads_the_answer(rig: ApiRig) -> None:
    rig.publish("harm", tenant=OWNER, labels=LABELS, problem="multi_label")
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.keys[TENANT], max_retries=0) as sdk:
        for asked in ({}, {"model": "omni-moderation-latest"}):
            answer = await sdk.moderations.create(input=["What a day", "Meh"], **asked)  # type: ignore[arg-type]
            assert [result.flagged for result in answer.results] == [True, True]
            assert answer.results[0].categories.hate is True
            assert answer.results[0].category_scores.hate == 0.97
            assert answer.results[0].category_scores.to_dict() == {"hate": 0.97, "spam": 0.02}
            assert answer.model == f"{OWNER}/harm"
