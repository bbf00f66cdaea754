"""Events built from a prepared frame are byte for byte what the schemas serialise to."""

import json
from typing import Any, Literal

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headmix_server.api.responses.chunks import (
    SLOT,
    AnswerCall,
    AnswerChoice,
    AnswerFunction,
    AnswerMessage,
    CallDelta,
    ChunkFrame,
    FunctionDelta,
    MessageChoice,
    MessageDelta,
    TextChoice,
)
from headmix_server.api.responses.whole import JsonList, object_pieces
from headmix_server.api.schemas import chat as schemas
from headmix_server.api.schemas.chat import (
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatTokenLogprob,
)
from headmix_server.api.schemas.common import GenerationUsage, PromptTokensDetails
from headmix_server.api.schemas.completions import Completion, CompletionChoice, CompletionLogprobs


def json_of(body: BaseModel | None) -> msgspec.Raw | None:
    """Return a part as the schemas serialise it."""
    return None if body is None else msgspec.Raw(body.model_dump_json().encode())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
REASONS = st.sampled_from([None, "stop", "length"])
EXCLUDED = st.sampled_from([None, {"usage"}])
MODELS = TEXTS | st.just('"choices":[]')
SCORES = st.floats(allow_nan=False, allow_infinity=False)


@given(text=TEXTS, model=MODELS, reason=REASONS, index=st.integers(0, 99), exclude=EXCLUDED, score=st.none() | SCORES)
def test_a_completion_s_event_is_the_schema_s(
    text: str,
    model: str,
    reason: Literal["stop", "length"] | None,
    index: int,
    exclude: set[str] | None,
    score: float | None,
) -> None:
    logprobs = None
    if score is not None:
        logprobs = CompletionLogprobs(
            tokens=[text], token_logprobs=[score], top_logprobs=[{text: score}], text_offset=[3]
        )
    choice = CompletionChoice(index=index, text=text, logprobs=logprobs, finish_reason=reason)
    body = Completion(id="cmpl-1", created=7, model=model, choices=[])
    expected = body.model_copy(update={"choices": [choice]}).model_dump_json(exclude=exclude)
    frame = ChunkFrame(body, exclude)
    assert frame.event(TextChoice(index, text, json_of(logprobs), reason)).decode() == expected


@given(texts=st.lists(TEXTS, max_size=3), model=MODELS, score=st.none() | SCORES)
def test_whole_answers_are_the_schemas(texts: list[str], model: str, score: float | None) -> None:
    def entries(*values: Any) -> JsonList:
        gathered = JsonList()
        for value in values:
            gathered.extend([value])
        return gathered

    usage = GenerationUsage(
        prompt_tokens=2, completion_tokens=3, total_tokens=5, prompt_tokens_details=PromptTokensDetails(cached_tokens=1)
    )
    plain = Completion(id="cmpl-1", created=7, model=model, choices=[], usage=usage)
    scored = object_pieces(
        tokens=entries(*texts),
        token_logprobs=entries(None, score),
        top_logprobs=entries(None, {"a": score or 0.0}),
        text_offset=entries(*range(len(texts))),
    )
    choices = [TextChoice(index, text, SLOT, "stop") for index, text in enumerate(texts)]
    body = b"".join(ChunkFrame(plain).whole(choices, [scored] * len(choices)))
    found = Completion.model_validate_json(body)
    assert json.loads(body) == found.model_dump()
    assert found.model_copy(update={"choices": []}) == plain
    chat = ChatCompletion(id="chatcmpl-1", created=7, model=model, choices=[], usage=usage)
    entry = ChatTokenLogprob(token="a", logprob=score or 0.0, bytes=[97], top_logprobs=[])
    content = JsonList()
    content.add(entry)
    slot = None if score is None else SLOT
    answers = [AnswerChoice(index, AnswerMessage(content=text), slot, "length") for index, text in enumerate(texts)]
    scores = [] if score is None else [object_pieces(content=content, refusal=None)] * len(answers)
    body = b"".join(ChunkFrame(chat).whole(answers, scores))
    answered = ChatCompletion.model_validate_json(body)
    assert json.loads(body) == answered.model_dump()
    assert answered.model_copy(update={"choices": []}) == chat


@given(model=MODELS | st.just('"usage":null'), text=TEXTS)
def test_an_event_with_its_usage_is_the_schema_s(model: str, text: str) -> None:
    details = PromptTokensDetails(cached_tokens=1)
    usage = GenerationUsage(prompt_tokens=2, completion_tokens=3, total_tokens=5, prompt_tokens_details=details)
    choice = CompletionChoice(index=0, text=text, finish_reason=None)
    body = Completion(id="cmpl-1", created=7, model=model, choices=[])
    expected = body.model_copy(update={"choices": [choice], "usage": usage}).model_dump_json()
    written = ChunkFrame(body).event(TextChoice(0, text), usage.model_dump_json().encode())
    assert written.decode() == expected


@given(
    text=st.none() | TEXTS, model=MODELS, reason=REASONS, role=st.sampled_from([None, "assistant"]), exclude=EXCLUDED
)
def test_a_chat_s_event_is_the_schema_s(
    text: str | None,
    model: str,
    reason: Literal["stop", "length"] | None,
    role: Literal["assistant"] | None,
    exclude: set[str] | None,
) -> None:
    scored = ChatTokenLogprob(token=text or "", logprob=-1.5, bytes=[1], top_logprobs=[])
    logprobs = None if text is None else ChatLogprobs(content=[scored])
    delta = ChatDelta(role=role, content=text)
    choice = ChatChunkChoice(index=2, delta=delta, logprobs=logprobs, finish_reason=reason)
    body = ChatChunk(id="chatcmpl-1", created=7, model=model, choices=[])
    expected = body.model_copy(update={"choices": [choice]}).model_dump_json(exclude=exclude)
    frame = ChunkFrame(body, exclude)
    written = frame.event(MessageChoice(2, MessageDelta(role, text), json_of(logprobs), reason))
    assert written.decode() == expected


NAMES = st.none() | TEXTS
CALLS = st.lists(st.tuples(st.integers(0, 3), NAMES, st.sampled_from([None, "function"]), NAMES, NAMES), max_size=2)


@given(calls=CALLS, thought=NAMES, model=MODELS, exclude=EXCLUDED)
def test_an_event_of_a_call_is_the_schema_s(
    calls: list[tuple[int, str | None, Literal["function"] | None, str | None, str | None]],
    thought: str | None,
    model: str,
    exclude: set[str] | None,
) -> None:
    expected_calls = [
        schemas.CallDelta(index=index, id=id_, type=kind, function=schemas.FunctionDelta(name=name, arguments=text))
        for index, id_, kind, name, text in calls
    ]
    written_calls = tuple(
        CallDelta(index=index, id=id_, type=kind, function=FunctionDelta(name=name, arguments=text))
        for index, id_, kind, name, text in calls
    )
    delta = ChatDelta(reasoning_content=thought, tool_calls=expected_calls or None)
    choice = ChatChunkChoice(index=2, delta=delta, finish_reason="tool_calls")
    body = ChatChunk(id="chatcmpl-1", created=7, model=model, choices=[])
    expected = body.model_copy(update={"choices": [choice]}).model_dump_json(exclude=exclude)
    delta_written = MessageDelta(reasoning_content=thought, tool_calls=written_calls)
    written = ChunkFrame(body, exclude).event(MessageChoice(2, delta_written, finish_reason="tool_calls"))
    assert written.decode() == expected


@given(content=NAMES, thought=NAMES, calls=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=2), model=MODELS)
def test_a_whole_message_with_calls_is_the_schema_s(
    content: str | None, thought: str | None, calls: list[tuple[str, str, str]], model: str
) -> None:
    usage = GenerationUsage(
        prompt_tokens=2, completion_tokens=3, total_tokens=5, prompt_tokens_details=PromptTokensDetails(cached_tokens=1)
    )
    frame = ChatCompletion(id="chatcmpl-1", created=7, model=model, choices=[], usage=usage)
    message = AnswerMessage(
        content=content,
        reasoning_content=msgspec.UNSET if thought is None else thought,
        tool_calls=tuple(AnswerCall(id_, AnswerFunction(name, text)) for id_, name, text in calls) or msgspec.UNSET,
    )
    body = b"".join(ChunkFrame(frame).whole([AnswerChoice(0, message, None, "tool_calls")]))
    found = ChatCompletion.model_validate_json(body)
    assert json.loads(body) == found.model_dump()
    assert found.choices[0].message.content == content
