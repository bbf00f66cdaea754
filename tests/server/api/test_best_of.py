"""`best_of`: of several completions, those with the greatest log-probability are returned."""

from collections.abc import Sequence
from math import fsum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.server.api_rig import BASE, ApiRig
from harness.server.fake_engine import EOS
from headmix_server.core.messages import Generate, Output, ToEngine, TokenOutput
from headmix_server.core.types import FinishReason, TokenLogprob

URL = "/v1/completions"
SCORES = st.lists(st.lists(st.floats(-9, 0), min_size=1, max_size=4), min_size=2, max_size=6)


def answers(rig: ApiRig, scores: Sequence[Sequence[float]]) -> None:
    """Make choice i of the next request say its number, with these log-probabilities, the last one the end token's."""

    def answer(message: ToEngine) -> Sequence[Output]:
        if not isinstance(message, Generate):
            return []
        own = scores[message.sampling.seed % len(scores)]
        tokens = [*rig.encode(str(message.sampling.seed % 10)) * (len(own) - 1), EOS]
        scored = [TokenLogprob(token=token, logprob=score) for token, score in zip(tokens, own, strict=True)]
        logprobs = None if message.sampling.logprobs is None else scored
        return [
            TokenOutput(
                request_id=message.request_id, tokens=tokens, logprobs=logprobs, finish_reason=FinishReason.STOP
            )
        ]

    rig.engine.answer = answer


async def ask(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json={"model": BASE, "prompt": "x", "seed": 0, **params})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refusal(rig: ApiRig, **params: Any) -> tuple[str, str]:
    response = await rig.client.post(URL, json={"model": BASE, "prompt": "x", **params})
    assert response.status_code == 400, response.text
    return response.json()["error"]["code"], response.json()["error"]["param"]


async def test_the_most_probable_come_first_and_all_are_counted(rig: ApiRig) -> None:
    answers(rig, [[-1.0, -4.0], [-2.0, -1.0], [-0.5, -9.0], [-0.1, -0.2]])
    answer = await ask(rig, best_of=4, n=2)
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "3"), (1, "1")]
    assert all(choice["logprobs"] is None for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 8
    assert len(rig.engine.of(Generate)) == 4


async def test_every_prompt_has_its_own_best(rig: ApiRig) -> None:
    answers(rig, [[-1.0, -4.0], [-2.0, -1.0], [-0.5, -0.1]])
    answer = await ask(rig, prompt=[[7], [5, 6]], best_of=3, n=1, logprobs=0)
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "2"), (1, "2")]
    assert [choice["logprobs"]["token_logprobs"] for choice in answer["choices"]] == [[-0.5]] * 2


@given(scores=SCORES, data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
async def test_the_order_is_that_of_the_exact_sums(rig: ApiRig, scores: list[list[float]], data: st.DataObject) -> None:
    answers(rig, scores)
    n = data.draw(st.integers(1, len(scores)))
    answer = await ask(rig, best_of=len(scores), n=n)
    order = sorted(range(len(scores)), key=lambda choice: fsum(scores[choice]), reverse=True)
    expected = [str(choice) * (len(scores[choice]) - 1) for choice in (order[:n] if n < len(scores) else range(n))]
    assert [choice["text"] for choice in answer["choices"]] == expected


async def test_as_many_as_are_returned_is_no_ranking(rig: ApiRig) -> None:
    answers(rig, [[-9.0, -9.0], [-1.0, -1.0]])
    for stream in (False, True):
        response = await rig.client.post(
            URL, json={"model": BASE, "prompt": "x", "seed": 0, "best_of": 2, "n": 2, "stream": stream}
        )
        assert response.status_code == 200
    assert [message.sampling.logprobs for message in rig.engine.of(Generate)] == [None] * 4


@pytest.mark.parametrize(
    "params",
    [{"best_of": 1, "n": 2}, {"best_of": 2, "stream": True}, {"best_of": 0}, {"best_of": 1.5}, {"best_of": 17}],
)
async def test_what_cannot_be_is_refused_by_name(rig: ApiRig, params: dict[str, Any]) -> None:
    assert await refusal(rig, **params) == ("invalid_request_error", "best_of")
    assert not rig.engine.of(Generate)
