"""OpenAI's own client library with this server: existing programs must work unchanged."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from harness.server.api_rig import BASE, TENANT, ApiRig, api_rig
from headmix_server.core.messages import Generate
from headmix_server.tenancy.limits.rates import Rates
from tests.support.clocks.fake_clock import FakeClock


@pytest.fixture
async def sdk(rig: ApiRig) -> AsyncIterator[AsyncOpenAI]:
    rig.says("The 日本 fox")
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.keys[TENANT], max_retries=0) as client:
        yield client


async def test_chat(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    answer = await sdk.chat.completions.create(
        model=BASE,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        logprobs=True,
        top_logprobs=2,
        n=2,
        extra_body={"top_k": 5},
    )
    assert [choice.message.content for choice in answer.choices] == ["The 日本 fox"] * 2
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert len(answer.choices[0].logprobs.content) == len(rig.engine.reply)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2 * (len(rig.engine.reply) + 1)
    assert rig.engine.of(Generate)[0].sampling.top_k == 5


async def test_chat_stream(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model=BASE,
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "The 日本 fox"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens


async def test_an_answer_sent_back_as_it_came_is_a_turn_of_the_conversation(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    first = await sdk.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "Hello"}])
    said = first.choices[0].message
    prompts = []
    for turn in (said, said.model_dump(), said.to_dict(), {"role": "assistant", "content": said.content}):
        messages: Any = [{"role": "user", "content": "Hello"}, turn, {"role": "user", "content": "More"}]
        await sdk.chat.completions.create(model=BASE, messages=messages)
        prompts.append(rig.engine.of(Generate)[-1].prompt)
    assert prompts == prompts[:1] * 4


async def test_a_stream_with_usage_in_every_event(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chat = await sdk.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "Hello"}], stream=True, stream_options=options
    )
    told = [chunk.usage.completion_tokens async for chunk in chat if chunk.usage is not None]
    made = len(rig.engine.reply) + 1
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, made)
    text = await sdk.completions.create(
        model=BASE, prompt="Hello", n=2, max_tokens=50, stream=True, stream_options=options
    )
    *chunks, last = [chunk async for chunk in text]
    assert all(chunk.usage is not None and chunk.usage.completion_tokens <= made for chunk in chunks)
    assert last.usage is not None
    assert last.usage.completion_tokens == 2 * made


async def test_the_accumulating_chat_stream(sdk: AsyncOpenAI) -> None:
    async with sdk.chat.completions.stream(model=BASE, messages=[{"role": "user", "content": "Hello"}]) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "The 日本 fox"


async def test_completions(sdk: AsyncOpenAI) -> None:
    answer = await sdk.completions.create(model=BASE, prompt="Hello", logprobs=1, echo=True, max_tokens=50)
    assert answer.choices[0].text == "HelloThe 日本 fox"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs is not None
    stream = await sdk.completions.create(model=BASE, prompt="Hello", stream=True, max_tokens=50)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "The 日本 fox"


async def test_embeddings(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    rig.engine.vector = [0.5, -0.25]
    rig.publish("tone", labels=("a", "b"))
    for model in (BASE, "tone"):
        answer = await sdk.embeddings.create(model=model, input=["Hello", "fox"])  # the SDK requests base64 by itself
        assert [entry.embedding for entry in answer.data] == [[0.5, -0.25]] * 2
    plain = await sdk.embeddings.create(
        model=BASE, input=[5, 6], encoding_format="float", extra_body={"pooling": "mean", "normalize": False}
    )
    assert (plain.data[0].embedding, plain.usage.prompt_tokens) == ([0.5, -0.25], 2)


async def test_models(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    rig.publish("tone")
    assert [model.id async for model in sdk.models.list()] == [BASE, "tone"]
    assert (await sdk.models.retrieve("tone")).owned_by == TENANT


async def test_errors_are_the_sdks_own_classes_with_code_and_param(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.completions.create(model="none", prompt="x")
    assert (missing.value.code, missing.value.param, missing.value.status_code) == ("model_not_found", "model", 404)
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.completions.create(model=BASE, prompt="x", suffix="y")
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "suffix")
    with pytest.raises(openai.AuthenticationError):
        await sdk.with_options(api_key="wrong").models.list()
    rig.state.engine.drain()
    with pytest.raises(openai.InternalServerError) as busy:
        await sdk.completions.create(model=BASE, prompt="x")
    assert busy.value.code == "server_overloaded"


async def test_the_sdk_waits_for_the_retry_time_and_gets_its_answer(base_folder: Path, tmp_path: Path) -> None:
    clock, waits = FakeClock(), list[float]()

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    settings = {"limit_requests_per_minute": 1}
    async with (
        api_rig(base_folder, tmp_path, settings=settings, rates=Rates(clock=clock)) as rig,
        AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.keys[TENANT], max_retries=0) as sdk,
    ):
        rig.says("The fox")
        await sdk.completions.create(model=BASE, prompt="x")
        with pytest.raises(openai.RateLimitError) as refused:
            await sdk.completions.create(model=BASE, prompt="x")
        assert (refused.value.code, refused.value.status_code) == ("rate_limit_exceeded", 429)
        clock.now += 90
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("openai._base_client.anyio.sleep", wait)
            answer = await sdk.with_options(max_retries=1).completions.create(model=BASE, prompt="x")
    assert answer.choices[0].text == "The fox"
    assert waits == [30.0]


async def test_the_sdk_does_not_try_again_what_can_never_pass(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"tokens_per_minute": 5}, actor="test")
    with pytest.raises(openai.RateLimitError):
        await sdk.with_options(max_retries=5).completions.create(model=BASE, prompt="x", max_tokens=50)
    refused = rig.state.metrics.rate_limited.labels(TENANT, "tokens_per_minute")
    assert refused._value.get() == 1


class City(BaseModel):
    """A form of an answer."""

    name: str
    people: int


async def test_responses(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    answer = await sdk.responses.create(model=BASE, instructions="Be brief.", input="Hello", max_output_tokens=50)
    assert (answer.output_text, answer.status) == ("The 日本 fox", "completed")
    assert answer.usage is not None
    assert answer.usage.output_tokens == len(rig.engine.reply) + 1
    again: Any = [{"role": "user", "content": "Hello"}, *answer.output, {"role": "user", "content": "More"}]
    await sdk.responses.create(model=BASE, input=again, store=False)
    assert "The 日本 fox" in rig.state.tokenizer.decode(rig.engine.of(Generate)[-1].prompt)


async def test_a_response_as_a_stream_of_events(sdk: AsyncOpenAI) -> None:
    events = [event async for event in await sdk.responses.create(model=BASE, input="Hello", stream=True)]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "The 日本 fox"
    assert [event.sequence_number for event in events if event.type != "error"] == list(range(len(events)))
    async with sdk.responses.stream(model=BASE, input="Hello") as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == final.output_text == "The 日本 fox"


async def test_a_response_that_must_parse(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    rig.says('{"name": "Paris", "people": 2000000}')
    parsed = await sdk.responses.parse(model=BASE, input="Name a city.", text_format=City)
    assert parsed.output_parsed == City(name="Paris", people=2_000_000)
    assert rig.engine.of(Generate)[-1].sampling.grammar is not None
    async with sdk.responses.stream(model=BASE, input="Name a city.", text_format=City) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == City(name="Paris", people=2_000_000)


async def test_what_responses_cannot_do_is_the_sdks_own_error(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.responses.create(model=BASE, input="x", previous_response_id="resp_1")
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "previous_response_id")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve("resp_1")


async def test_what_is_no_openai_parameter_goes_in_the_extra_body(sdk: AsyncOpenAI, rig: ApiRig) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Once upon"}]
    extra = {"continue_final_message": True, "chat_template_kwargs": {"enable_thinking": False}, "min_tokens": 2}
    await sdk.chat.completions.create(model=BASE, messages=messages, extra_body=extra)
    assert rig.state.tokenizer.decode(rig.engine.of(Generate)[-1].prompt).endswith("Once upon")
    best = await sdk.completions.create(model=BASE, prompt="Hello", n=1, best_of=3, max_tokens=50)
    assert (len(best.choices), best.choices[0].text) == (1, "The 日本 fox")
