"""`suffix`: a completion between two texts, for models whose vocabulary has tokens to fill in with."""

from typing import Any

import pytest

from harness.bases.base_folder import IM_END
from harness.server.api_rig import BASE, ApiRig
from headmix_server.api.inference.fill_in import FORMS
from headmix_server.core.messages import Generate
from tests.support.sse import events

URL = "/v1/completions"


@pytest.fixture
def first(rig: ApiRig) -> int:
    """The id of the first token that the adapter `coder` adds; they are the three to fill in with."""
    rig.publish("coder", added_tokens=FORMS[1])
    return rig.state.base.shape.vocab_size


async def prompts(rig: ApiRig, model: str = "coder", **params: Any) -> list[list[int]]:
    rig.engine.received.clear()
    response = await rig.client.post(URL, json={"model": model, **params})
    assert response.status_code == 200, response.text
    return [message.prompt for message in rig.engine.of(Generate)]


async def refusal(rig: ApiRig, model: str = "coder", **params: Any) -> tuple[str, str]:
    response = await rig.client.post(URL, json={"model": model, **params})
    assert response.status_code == 400, response.text
    assert not rig.engine.of(Generate)
    return response.json()["error"]["code"], response.json()["error"]["param"]


async def test_the_completion_stands_between_the_two_texts(rig: ApiRig, first: int) -> None:
    fox, dog = rig.encode("The fox"), rig.encode(" dog.")
    expected = [first, *fox, first + 1, *dog, first + 2]
    assert await prompts(rig, prompt="The fox", suffix=" dog.") == [expected]
    assert await prompts(rig, prompt=fox, suffix=" dog.") == [expected]
    many = await prompts(rig, prompt=["The fox", ""], suffix=" dog.", n=2)
    assert many == [expected, expected, [first, first + 1, *dog, first + 2], [first, first + 1, *dog, first + 2]]


async def test_a_suffix_is_streamed_like_any_completion(rig: ApiRig, first: int) -> None:
    rig.says(" over the")
    body = {"model": "coder", "prompt": "The fox", "suffix": " dog."}
    whole = (await rig.client.post(URL, json=body)).json()["choices"][0]["text"]
    streamed = events((await rig.client.post(URL, json={**body, "stream": True})).text)[:-1]
    assert "".join(choice["text"] for event in streamed for choice in event["choices"]) == whole == " over the"


async def test_long_and_split_texts_are_read_the_same_way(rig: ApiRig, first: int) -> None:
    """By a worker: as one text they need a copy of the tokenizer, or are too long for the event loop."""
    (prompt,) = await prompts(rig, prompt=f"a{IM_END}", suffix=f"b{IM_END}", split_special_tokens=True)
    end = rig.state.tokenizer.token_id(IM_END)
    assert end not in prompt
    assert rig.state.tokenizer.decode([token for token in prompt if token < first]) == f"a{IM_END}b{IM_END}"
    assert await refusal_of_length(rig) == ("context_length_exceeded", "prompt")


async def refusal_of_length(rig: ApiRig) -> tuple[str, str]:
    rig.engine.received.clear()
    told = [await refusal(rig, prompt=text, suffix=" dog") for text in ("The fox " * 400, "." * 2_100)]
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize("model", [BASE, "plain"])
async def test_a_model_without_such_tokens_refuses_it_by_name(rig: ApiRig, model: str) -> None:
    rig.publish("plain", added_tokens=FORMS[1][:2])
    assert await refusal(rig, model, prompt="x", suffix="y") == ("unsupported_parameter", "suffix")
    assert len(await prompts(rig, model, prompt="x", suffix="")) == 1


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"echo": True}, "suffix"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"suffix": 3}, "suffix"),
        ({"prompt": [10**6]}, "prompt"),
    ],
)
async def test_what_does_not_go_together_is_refused(
    rig: ApiRig, first: int, params: dict[str, Any], param: str
) -> None:
    assert await refusal(rig, **{"prompt": "x", "suffix": "y", **params}) == ("invalid_request_error", param)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])
async def test_every_usual_form_is_found(rig: ApiRig, form: tuple[str, str, str]) -> None:
    rig.publish("other", added_tokens=form)
    first = rig.state.base.shape.vocab_size
    (prompt,) = await prompts(rig, "other", prompt="a", suffix="b")
    assert prompt == [first, *rig.encode("a"), first + 1, *rig.encode("b"), first + 2]
