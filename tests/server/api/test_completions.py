import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from harness.server.fake_engine import EOS
from headmix_server.core.messages import Abort, Failed, Generate, TokenOutput
from headmix_server.core.types import FinishReason
from tests.support.sse import events, read_events

URL = "/v1/completions"


def body(**params: Any) -> dict[str, Any]:
    return {"model": BASE, "prompt": "Hello", "max_tokens": 8, **params}


async def ask(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json=body(**params))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def sampling(rig: ApiRig, **params: Any) -> Any:
    await ask(rig, **params)
    return rig.engine.of(Generate)[-1].sampling


async def test_a_completion_is_the_engines_tokens_as_text_with_exact_usage(rig: ApiRig) -> None:
    rig.says(" the quick fox")
    answer = await ask(rig, max_tokens=50)
    made = len(rig.encode(" the quick fox")) + 1
    prompt = len(rig.state.tokenizer.encode("Hello"))
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", BASE)
    assert answer["choices"] == [{"index": 0, "text": " the quick fox", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
    }


async def test_the_length_limit_is_a_reason_of_its_own(rig: ApiRig) -> None:
    rig.says(" the quick fox")
    choice = (await ask(rig, max_tokens=1))["choices"][0]
    assert choice["finish_reason"] == "length"


async def test_without_max_tokens_sixteen_are_asked_for(rig: ApiRig) -> None:
    assert (await sampling(rig, max_tokens=None)).max_tokens == 16


async def test_every_sampling_parameter_reaches_the_engine(rig: ApiRig) -> None:
    params = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "repetition_penalty": 1.5,
        "seed": 11,
        "stop_token_ids": [5, 6],
        "ignore_eos": True,
        "logprobs": 2,
    }
    sent = await sampling(rig, **params)
    given = {name: getattr(sent, name) for name in params}
    assert given == {**params, "stop_token_ids": (5, 6)}


async def test_what_is_not_given_leaves_the_distribution_as_it_is(rig: ApiRig) -> None:
    sent = await sampling(rig)
    assert (sent.temperature, sent.top_p, sent.top_k, sent.min_p, sent.repetition_penalty) == (1, 1, 0, 0, 1)
    assert (sent.presence_penalty, sent.frequency_penalty, sent.logprobs, sent.prompt_logprobs) == (0, 0, None, False)


async def test_choices_have_seeds_in_a_row_and_none_drawn_is_repeated(rig: ApiRig) -> None:
    await ask(rig, n=3, seed=40)
    assert sorted(message.sampling.seed for message in rig.engine.of(Generate)) == [40, 41, 42]
    drawn = {(await sampling(rig)).seed for _ in range(5)}
    assert len(drawn) == 5


async def test_prompts_times_n_choices_come_back_in_order(rig: ApiRig) -> None:
    rig.engine.answer = _echo_prompt
    answer = await ask(rig, prompt=["Hello", " fox"], n=2)
    hello, fox = "Hello", " fox"
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [
        (0, hello),
        (1, hello),
        (2, fox),
        (3, fox),
    ]
    assert answer["usage"]["prompt_tokens"] == len(rig.encode(hello)) + len(rig.encode(fox))


async def test_continuous_usage_counts_each_choice_by_itself_and_comes_with_include_usage_alone(rig: ApiRig) -> None:
    rig.says(" the quick fox")
    prompts = [rig.encode("Hello there"), rig.encode("fox")]
    options = {"include_usage": True, "continuous_usage_stats": True}
    response = await rig.client.post(
        URL, json=body(prompt=prompts, n=2, max_tokens=50, stream=True, stream_options=options)
    )
    *chunks, last, _ = events(response.text)
    made = len(rig.encode(" the quick fox")) + 1
    for index in range(4):
        mine = [chunk["usage"] for chunk in chunks if chunk["choices"][0]["index"] == index]
        counts = [usage["completion_tokens"] for usage in mine]
        assert counts == sorted(counts)
        assert counts[-1] == made
        assert {usage["prompt_tokens"] for usage in mine} == {len(prompts[index // 2])}
        assert all(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in mine)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4 * made
    for without in ({"continuous_usage_stats": True}, {"include_usage": True, "continuous_usage_stats": False}):
        response = await rig.client.post(URL, json=body(stream=True, stream_options=without))
        assert all(not chunk.get("usage") for chunk in events(response.text)[:-1] if chunk["choices"])


@pytest.mark.parametrize("many", [False, True])
async def test_token_ids_are_prompts_as_they_are(rig: ApiRig, many: bool) -> None:
    await ask(rig, prompt=[[5, 6, 7]] if many else [5, 6, 7])
    assert rig.engine.of(Generate)[0].prompt == [5, 6, 7]


async def test_an_adapter_answers_under_its_name_and_the_response_says_exactly_which(rig: ApiRig) -> None:
    first = rig.publish("tone", b"one")
    second = rig.publish("tone", b"two")
    for model, version in (("tone", second), ("tone@1", first), ("tone@2", second)):
        response = await rig.client.post(URL, json=body(model=model))
        assert response.json()["model"] == model
        assert response.headers["x-headmix-adapter"] == f"{version.reference} {version.digest}"
        sent = rig.engine.of(Generate)[-1]
        assert sent.adapter == rig.state.library.ref(version)
        assert sent.tenant == "tenant"


async def test_an_error_about_an_adapter_says_which_it_is_about(rig: ApiRig) -> None:
    version = rig.publish("tone", labels=("bad", "good"))
    for stream in (False, True):
        response = await rig.client.post(URL, json={"model": "tone", "prompt": "x", "stream": stream})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "task_mismatch")
        assert response.headers["x-headmix-adapter"] == f"tone@1 {version.digest}"
    unknown = await rig.client.post(URL, json={"model": "nobody", "prompt": "x"})
    assert (unknown.status_code, "x-headmix-adapter" in unknown.headers) == (404, False)


async def test_the_base_alone_has_no_adapter_header(rig: ApiRig) -> None:
    response = await rig.client.post(URL, json=body())
    assert "x-headmix-adapter" not in response.headers
    assert rig.engine.of(Generate)[-1].adapter is None


async def test_a_stop_string_cuts_the_text_and_ends_the_engines_work(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(ask(rig, stop=["fox"], max_tokens=100))
    request = (await rig.engine.expect(Generate))[0]
    tokens = rig.encode("The quick brown fox jumps")
    await rig.engine.send(*(TokenOutput(request_id=request.request_id, tokens=[token]) for token in tokens))
    choice = (await task)["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("The quick brown ", "stop")
    assert await rig.engine.expect(Abort) == [Abort(request_id=request.request_id)]


async def test_a_stop_token_of_the_clients_is_not_shown(rig: ApiRig) -> None:
    stop = rig.encode("!")[0]
    rig.engine.answer = lambda message: (
        [TokenOutput(request_id=message.request_id, tokens=[*rig.encode("Hi"), stop], finish_reason=FinishReason.STOP)]
        if isinstance(message, Generate)
        else []
    )
    assert (await ask(rig, stop_token_ids=[stop]))["choices"][0]["text"] == "Hi"


async def test_echo_puts_the_prompt_before_the_text(rig: ApiRig) -> None:
    rig.says(" world")
    assert (await ask(rig, echo=True))["choices"][0]["text"] == "Hello world"
    assert (await ask(rig, echo=True, prompt=rig.encode("fox")))["choices"][0]["text"] == "fox world"


async def test_logprobs_name_each_token_of_the_text_with_its_place(rig: ApiRig) -> None:
    rig.says(" the fox")
    choice = (await ask(rig, logprobs=2, max_tokens=50))["choices"][0]
    ids = rig.encode(" the fox")
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["token_logprobs"] == [-token / 1000 for token in ids]
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert choice["text"].startswith(token, offset)
    assert all(len(top) == 2 for top in logprobs["top_logprobs"])
    assert [top[token] for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True)] == logprobs[
        "token_logprobs"
    ]


async def test_logprobs_end_where_a_stop_string_cut_the_text(rig: ApiRig) -> None:
    rig.says("one two three")
    choice = (await ask(rig, logprobs=0, stop=" two", max_tokens=50))["choices"][0]
    assert choice["text"] == "one"
    assert all(offset < 3 for offset in choice["logprobs"]["text_offset"])
    assert "".join(choice["logprobs"]["tokens"]) == "one"


async def test_echo_with_logprobs_scores_the_prompt_too_but_not_its_first_token(rig: ApiRig) -> None:
    rig.says(" fox")
    choice = (await ask(rig, echo=True, logprobs=1, max_tokens=50))["choices"][0]
    prompt, made = rig.encode("Hello"), rig.encode(" fox")
    logprobs = choice["logprobs"]
    assert logprobs["token_logprobs"] == [None, *(-token / 1000 for token in [*prompt[1:], *made])]
    assert logprobs["top_logprobs"][0] is None
    assert "".join(logprobs["tokens"]) == choice["text"] == "Hello fox"
    assert logprobs["text_offset"][len(prompt)] == len("Hello")


async def test_echo_of_nothing_more_scores_the_prompt_alone(rig: ApiRig) -> None:
    rig.says(" fox")
    answer = await ask(rig, echo=True, logprobs=0, max_tokens=0)
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Hello", "length")
    assert len(choice["logprobs"]["tokens"]) == len(rig.encode("Hello"))
    assert answer["usage"]["completion_tokens"] == 0
    one = await ask(rig, echo=True, logprobs=0, max_tokens=0, prompt=[5])
    assert one["choices"][0]["logprobs"]["token_logprobs"] == [None]


async def test_half_a_character_is_named_by_its_bytes(rig: ApiRig) -> None:
    text = "日"
    rig.says(text)
    choice = (await ask(rig, logprobs=0, max_tokens=50))["choices"][0]
    assert choice["text"] == text
    assert choice["logprobs"]["tokens"] == [f"bytes:\\x{byte:02x}" for byte in text.encode()]
    assert choice["logprobs"]["text_offset"] == [0, 0, 0]


async def test_a_stream_joined_is_the_whole_answer(rig: ApiRig) -> None:
    rig.says(" the quick 日本 fox")
    whole = await ask(rig, max_tokens=50, echo=True, logprobs=1, n=2, seed=1)
    response = await rig.client.post(
        URL,
        json=body(
            max_tokens=50, echo=True, logprobs=1, n=2, seed=1, stream=True, stream_options={"include_usage": True}
        ),
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert [t for c in mine for t in c["logprobs"]["tokens"]] == choice["logprobs"]["tokens"]
        assert [t for c in mine for t in c["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]


async def test_a_stream_without_asking_has_no_usage(rig: ApiRig) -> None:
    rig.says(" fox")
    *chunks, _ = events((await rig.client.post(URL, json=body(stream=True))).text)
    assert all("usage" not in chunk for chunk in chunks)


async def test_the_first_event_is_sent_before_the_engine_has_made_the_last_token(rig: ApiRig) -> None:
    rig.engine.answering = False
    adapter = rig.publish("tone")
    async with asyncio.TaskGroup() as group:
        first: asyncio.Event = asyncio.Event()

        async def engine() -> None:
            request_id = (await rig.engine.expect(Generate))[0].request_id
            await rig.engine.send(TokenOutput(request_id=request_id, tokens=rig.encode("Hi")))
            await first.wait()
            await rig.engine.send(TokenOutput(request_id=request_id, tokens=[EOS], finish_reason=FinishReason.STOP))

        group.create_task(engine())
        async with rig.client.stream("POST", URL, json=body(model="tone", stream=True)) as response:
            assert response.headers["x-headmix-adapter"] == f"tone@1 {adapter.digest}"
            received = []
            async for event in read_events(response):
                received.append(event)
                first.set()
    assert [chunk["choices"][0]["text"] for chunk in received[:-1]] == ["Hi", ""]
    assert received[-1] == "[DONE]"


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event(rig: ApiRig) -> None:
    rig.engine.answer = lambda message: (
        [
            TokenOutput(request_id=message.request_id, tokens=rig.encode("Hi")),
            Failed(request_id=message.request_id, code="engine_unavailable", message="the engine died"),
        ]
        if isinstance(message, Generate)
        else []
    )
    response = await rig.client.post(URL, json=body(stream=True))
    first, last = events(response.text)
    assert first["choices"][0]["text"] == "Hi"
    assert last == {
        "error": {"message": "the engine died", "type": "server_error", "param": None, "code": "engine_unavailable"}
    }


async def test_an_error_before_the_first_event_is_a_status(rig: ApiRig) -> None:
    rig.engine.answer = lambda message: (
        [Failed(request_id=message.request_id, code="context_length_exceeded", message="too long")]
        if isinstance(message, Generate)
        else []
    )
    response = await rig.client.post(URL, json=body(stream=True))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_aborts_all_its_engine_requests(rig: ApiRig, stream: bool) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json=body(n=3, stream=stream)))
    await rig.engine.expect(Generate, 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(await rig.engine.aborted()) == 3
    assert rig.state.engine.open_requests == 0


async def test_a_client_that_leaves_in_the_middle_of_a_stream_aborts_it(rig: ApiRig) -> None:
    rig.engine.answering = False
    async with rig.client.stream("POST", URL, json=body(stream=True)) as response:
        first = asyncio.ensure_future(anext(read_events(response)))
        request_id = (await rig.engine.expect(Generate))[0].request_id
        await rig.engine.send(TokenOutput(request_id=request_id, tokens=rig.encode("Hi")))
        await first
    assert await rig.engine.aborted() == {request_id}


async def test_one_choice_that_fails_ends_the_others(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json=body(n=3)))
    requests = await rig.engine.expect(Generate, 3)
    await rig.engine.send(Failed(request_id=requests[1].request_id, code="internal_error", message="secret"))
    response = await task
    assert response.status_code == 500
    assert "secret" not in response.text
    assert {m.request_id for m in await rig.engine.expect(Abort, 2)} == {
        requests[0].request_id,
        requests[2].request_id,
    }


async def test_an_encoder_base_refuses_to_generate(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, shape={"model_type": "bert"}) as rig:
        for url, prompt in ((URL, {"prompt": "x"}), ("/v1/chat/completions", {"messages": [_user("x")]})):
            response = await rig.client.post(url, json={"model": BASE, **prompt})
            assert (response.status_code, response.json()["error"]["code"]) == (400, "task_mismatch")


async def test_long_prompts_are_answered_too(rig: ApiRig) -> None:
    response = await rig.client.post(URL, json=body(prompt="Hello " * 5000))
    assert response.json()["error"]["code"] == "context_length_exceeded"


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _echo_prompt(message: object) -> list[TokenOutput]:
    if not isinstance(message, Generate):
        return []
    return [TokenOutput(request_id=message.request_id, tokens=message.prompt, finish_reason=FinishReason.LENGTH)]
