"""A format that a base describes itself is read by transformers' parser: any tags, any way of writing arguments."""

import json
import subprocess
import sys
from typing import Any

import pytest

from headmix_server.text.tools.declared import DeclaredFormat, DeclaredReader, ResponseTemplateError, load
from tests.server.text.tools.read import Read, pieces_of, read

TEMPLATE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<thought>", "close": "</thought>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<call name=(?P<name>\w+)>",
            "close": "</call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<(?P<key>\w+)>(?P<value>.*?)</(?P=key)>"},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"content": "text"},
    },
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }
]
PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def reader(prompt: str = PROMPT) -> DeclaredReader:
    load()
    return DeclaredFormat(TEMPLATE).reader(prompt, TOOLS)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_text_reasoning_and_calls_are_separated_in_any_pieces(size: int) -> None:
    text = "<thought>Hm.</thought>\n\nLet me see.\n<call name=add><a>1</a></call>\n<call name=add><a>2</a></call>"
    found = read(reader(), pieces_of(text, [size] * len(text)))
    assert (found.reasoning, found.content) == ("Hm.", "Let me see.")
    assert [(name, json.loads(written)) for name, written in found.calls] == [("add", {"a": 1}), ("add", {"a": 2})]


def test_a_plain_answer_is_its_text() -> None:
    assert read(reader(), ["Hello", " there.\n"]) == Read(content="Hello there.\n")


def test_what_the_prompt_begins_belongs_to_the_answer() -> None:
    found = read(reader(f"{PROMPT}<thought>"), ["Hm.</thought>Yes."])
    assert (found.reasoning, found.content) == ("Hm.", "Yes.")


def test_what_is_no_call_is_text() -> None:
    template = {**TEMPLATE, "fields": {**TEMPLATE["fields"], "tool_calls": JSON_CALLS}}
    load()
    for text in ("<call>no json</call> and more", "<call>no json"):
        found = read(DeclaredFormat(template).reader(PROMPT, TOOLS), [text])
        assert found.calls == []
        assert "no json" in found.content


JSON_CALLS = {"open": "<call>", "close": "</call>", "repeats": True, "content": "json"}


def test_a_faulty_template_is_named_as_such() -> None:
    with pytest.raises(ResponseTemplateError, match="start_anchor"):
        DeclaredFormat({"fields": {"content": {"content": "text"}}}).reader(PROMPT, TOOLS)


def test_transformers_is_imported_only_for_such_a_base_and_brings_no_torch() -> None:
    code = (
        "import sys, headmix_server.api.routes.chat as chat\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
        "from headmix_server.text.tools.declared import load\n"
        "load()\n"
        "assert 'transformers' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_special_tokens_that_the_template_mentions_are_its_markers() -> None:
    template = {"fields": {"tool_calls": {"open_pattern": r"<\|call\|>", "close": "<|end|>"}}}
    assert DeclaredFormat(template).markers(["<|call|>", "<|end|>", "<|other|>"]) == ("<|call|>", "<|end|>")
