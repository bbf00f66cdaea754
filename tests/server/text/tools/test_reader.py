"""Texts, reasoning and calls are separated, whatever the arguments contain and however the answer is cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_parsing import parse_response

from headmix_server.text.tools.formats import FORMATS, HERMES, LLAMA, MISTRAL, MISTRAL_LIST, ToolFormat
from headmix_server.text.tools.reader import ToolReader
from tests.server.text.tools.read import Read, pieces_of, read

KNOWN = frozenset({"f", "g"})
SIZES = st.lists(st.integers(1, 6), max_size=60)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('<>[]{}",\\')) | st.sampled_from(
    ["</tool_call>", "<tool_call>", "[TOOL_CALLS]", "[ARGS]", "}", '"}', "<think>", "a </tool_call> b", "\\"]
)
ARGUMENTS = st.dictionaries(TEXTS, TEXTS | st.integers() | st.lists(TEXTS) | st.dictionaries(TEXTS, TEXTS), max_size=3)
MARKED = (
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<think>",
    "</think>",
    '{"name": "f", "arguments": {',
    "}}",
)
CALLS = st.lists(st.tuples(st.sampled_from(["f", "g"]), ARGUMENTS), min_size=1, max_size=3)
by_format = pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)


def written(format_: ToolFormat, calls: list[tuple[str, Any]]) -> str:
    """Write calls as a template does."""
    bodies = [
        f"{format_.before}{name}{format_.middle}{json.dumps(arguments, ensure_ascii=False)}{format_.after}"
        for name, arguments in calls
    ]
    return format_.opening + (format_.between or "").join(bodies) + format_.closing


def answer(format_: ToolFormat, text: str, sizes: tuple[int, ...] | list[int] = (), **options: Any) -> Read:
    return read(ToolReader(format_, KNOWN, **options), pieces_of(text, sizes))


def every_way(format_: ToolFormat, text: str, **options: Any) -> Read:
    """Read an answer at once and character by character, which must give the same."""
    whole = answer(format_, text, **options)
    for size in (1, 2, 3, 7):
        assert answer(format_, text, [size] * len(text), **options) == whole
    return whole


@by_format
@pytest.mark.parametrize("eager", [False, True])
@given(calls=CALLS, sizes=SIZES)
def test_calls_are_what_was_written_in_any_pieces(
    format_: ToolFormat, eager: bool, calls: list[tuple[str, Any]], sizes: list[int]
) -> None:
    calls = calls[:1] if format_.between is None else calls
    found = answer(format_, written(format_, calls), sizes, eager=eager)
    assert [(name, json.loads(arguments)) for name, arguments in found.calls] == calls
    assert (found.content, found.reasoning, found.cut) == ("", "", False)
    assert [arguments for _, arguments in found.calls] == [json.dumps(one, ensure_ascii=False) for _, one in calls]


@by_format
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<[{")), sizes=SIZES)
def test_a_text_without_calls_is_the_text(format_: ToolFormat, text: str, sizes: list[int]) -> None:
    assert answer(format_, text, sizes) == Read(content=text)


@by_format
@given(
    text=st.lists(st.sampled_from([*'ab<[{}]> \n";,', *MARKED])).map("".join),
    sizes=SIZES,
)
def test_how_an_answer_is_cut_makes_no_difference(format_: ToolFormat, text: str, sizes: list[int]) -> None:
    for eager in (False, True):
        assert answer(format_, text, sizes, eager=eager) == answer(format_, text, eager=eager)


@by_format
def test_an_eager_call_whose_arguments_break_off_is_reported_up_to_there_in_any_pieces(format_: ToolFormat) -> None:
    whole = written(format_, [("f", {"a": 1})])
    broken = whole[: whole.index("1")] + ";" + whole[whole.index("1") :]
    found = every_way(format_, broken, eager=True)
    assert found.calls == [("f", '{"a": ')]
    assert found.cut


@by_format
def test_text_before_calls_and_after_them_is_content_without_the_space_around_them(format_: ToolFormat) -> None:
    if format_ is LLAMA:
        return  # its calls are whole messages
    calls = written(format_, [("f", {"a": 1}), ("g", {})])
    found = every_way(format_, f"Let me see. \n{calls}\n")
    assert (found.content, found.calls) == ("Let me see.", [("f", '{"a": 1}'), ("g", "{}")])
    assert every_way(format_, f"{calls}\n\nDone.\n").content == "Done."
    assert every_way(format_, f"So: {calls} Done. {calls} Done.").content == "So:\nDone.\nDone."


@by_format
def test_a_call_that_is_cut_is_not_reported_unless_it_was_begun(format_: ToolFormat) -> None:
    calls = [("f", {"a": "b"}), ("g", {"c": "d"})][: 1 if format_.between is None else 2]
    cut = written(format_, calls)
    cut = cut[: cut.rindex('"') - 2]
    found = every_way(format_, cut)
    assert found.calls == [("f", '{"a": "b"}')][: len(calls) - 1]
    assert not any(marker in found.content for marker in format_.markers)
    begun = every_way(format_, cut, eager=True)
    assert [name for name, _ in begun.calls] == [name for name, _ in calls]
    assert begun.cut


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<tool_call>not valid json</tool_call>", "not valid json"),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', '{"name": "f", "arguments": {"a": 1}'),
        ('<tool_call>{"arguments": {}}</tool_call>', '{"arguments": {}}'),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', '{"name": "f", "arguments": [1]}'),
        ('<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', '{"name": "f", "arguments": {"a": NaN}}'),
        ('<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>', '{"name": "\\ud800", "arguments": {}}'),
        ("a </tool_call> b", "a  b"),
        ("<tool_call>", ""),
        ("a <tool", "a <tool"),
    ],
)
def test_what_is_no_call_is_text_without_its_marker(text: str, content: str) -> None:
    found = every_way(HERMES, text)
    assert (found.content, found.calls) == (content, [])


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>', ("f", '{"a":1}')),
        ('<tool_call>\n{"arguments": {"name": "x"}, "name": "f"}\n</tool_call>', ("f", '{"name": "x"}')),
        ('<tool_call>{"name": "f"}</tool_call>', ("f", "{}")),
        ('<tool_call>{"name": "f", "arguments": null}</tool_call>', ("f", "{}")),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ("f", '{"a": 1}')),
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', ("f", '{"a": 1}')),
        ('<tool_call>{"name": "f", "arguments": {"a": "x\ny"}}</tool_call>', ("f", '{"a": "x\\ny"}')),
        ('<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', ("unknown", "{}")),
        ('<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>', ("f", '{"a": "\\ud800"}')),
        ('<tool_call>{"name": "f", "arguments": {"a": "\\ud800\n"}}</tool_call>', ("f", '{"a": "\\ud800\\n"}')),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}</tool_call>', ("f", '{"a": "\\ud800"}')),
    ],
)
def test_what_models_make_of_the_format_is_understood(text: str, call: tuple[str, str]) -> None:
    assert every_way(HERMES, text).calls == [call]


@pytest.mark.parametrize(
    ("text", "calls", "content"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', [("f", '{"a": 1}')], ""),
        ('<|python_tag|>{"name": "f", "arguments": {}}', [("f", "{}")], ""),
        ('Look: <|python_tag|>{"name": "f", "parameters": {}}', [("f", "{}")], "Look:"),
        ('{"type": "function", "name": "f", "parameters": {}}', [("f", "{}")], ""),
        ('{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', [("f", "{}"), ("g", "{}")], ""),
        ('{"name": "Ada", "parameters": {}}', [], '{"name": "Ada", "parameters": {}}'),
        ('{"a": 1} is a dict', [], '{"a": 1} is a dict'),
        ("{}", [], "{}"),
        ("{ is a brace", [], "{ is a brace"),
        ('See {"name": "f", "parameters": {}}', [], 'See {"name": "f", "parameters": {}}'),
        ('{"name": "f", "parameters": {"a": "<|python_tag|>"}}', [("f", '{"a": "<|python_tag|>"}')], ""),
    ],
)
def test_llamas_json_is_a_call_only_where_it_names_a_tool(
    text: str, calls: list[tuple[str, str]], content: str
) -> None:
    found = every_way(LLAMA, text)
    assert (found.calls, found.content) == (calls, content)


@pytest.mark.parametrize(
    ("format_", "text", "calls", "content"),
    [
        (MISTRAL_LIST, '[TOOL_CALLS][{"name": "f", "arguments":{"a": 3.5}}]', [("f", '{"a": 3.5}')], ""),
        (MISTRAL_LIST, '[TOOL_CALLS] [{"arguments":{"a": 1}, "name": "f", "id": "abc"}]', [("f", '{"a": 1}')], ""),
        (MISTRAL_LIST, "[TOOL_CALLS] not json at all", [], "not json at all"),
        (MISTRAL, '[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"a": 1}', [("f", '{"a": 1}')], ""),
        (MISTRAL, '[TOOL_CALLS]f{"a": 1}', [("f", '{"a": 1}')], ""),
        (MISTRAL, "[TOOL_CALLS]f", [], "f"),
        (MISTRAL, "[TOOL_CALLS]no call at all", [], "no call at all"),
    ],
)
def test_mistrals_variants(format_: ToolFormat, text: str, calls: list[tuple[str, str]], content: str) -> None:
    found = every_way(format_, text)
    assert (found.calls, found.content.strip()) == (calls, content)


@by_format
def test_reasoning_is_not_content_and_a_call_in_it_is_none(format_: ToolFormat) -> None:
    call = written(format_, [("f", {"a": 1})])
    for opening, ending in (("<think>", "</think>"), ("[THINK]", "[/THINK]")):
        found = every_way(format_, f"{opening}\nHm: {call}?\n{ending}\n\n{call}")
        assert (found.reasoning, found.content, found.calls) == (f"Hm: {call}?", "", [("f", '{"a": 1}')])
        begun = every_way(format_, f"Hm.\n{ending}\n\nYes.", thought_end=ending)
        assert (begun.reasoning, begun.content) == ("Hm.", "Yes.")
        cut = every_way(format_, "Hm. What", thought_end=ending)
        assert (cut.reasoning, cut.content) == ("Hm. What", "")
    assert every_way(format_, "Use <think> tags").content == "Use <think> tags"


HERMES_RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"content": "text"},
    },
}
PLAIN = st.text(st.sampled_from('abc é{}"\\ \n'), max_size=12)


@given(
    content=PLAIN.map(str.strip),
    thought=PLAIN.map(str.strip),
    calls=st.lists(
        st.tuples(st.sampled_from("fg"), st.dictionaries(PLAIN, PLAIN | st.integers(), max_size=3)), max_size=2
    ),
)
def test_answers_without_markers_in_arguments_are_read_as_transformers_reads_them(
    content: str, thought: str, calls: list[tuple[str, Any]]
) -> None:
    text = f"<think>\n{thought}\n</think>\n\n" if thought else ""
    text += content + ("\n" if content and calls else "") + (written(HERMES, calls) if calls else "")
    expected = parse_response(text, HERMES_RESPONSE, prefix="")
    found = answer(HERMES, text)
    assert found.content.strip() == expected.get("content", "")
    assert found.reasoning == expected.get("reasoning_content", "")
    called = [(one["function"]["name"], one["function"]["arguments"]) for one in expected.get("tool_calls", [])]
    assert [(name, json.loads(arguments)) for name, arguments in found.calls] == called
