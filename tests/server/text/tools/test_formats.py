"""The format in which a base calls tools is recognised from what its folder declares."""

import pytest

from harness.bases.base_folder import CHATML
from harness.bases.tool_templates import HERMES as HERMES_TEMPLATE
from harness.bases.tool_templates import LLAMA as LLAMA_TEMPLATE
from harness.bases.tool_templates import MISTRAL as MISTRAL_LIST_TEMPLATE
from harness.bases.tool_templates import MISTRAL_COMPACT
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.text.tools.formats import (
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_LIST,
    ToolFormat,
    format_of_response,
    format_of_template,
)

TEMPLATES = [
    pytest.param(HERMES_TEMPLATE, HERMES, id="hermes"),
    pytest.param(LLAMA_TEMPLATE, LLAMA, id="llama"),
    pytest.param(MISTRAL_LIST_TEMPLATE, MISTRAL_LIST, id="mistral-list"),
    pytest.param(MISTRAL_COMPACT, MISTRAL, id="mistral"),
]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": {"a": [1, {"b": "é"}]}}}
HERMES_RESPONSE = {
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {"open_pattern": r"\s*<tool_call>", "close": "</tool_call>", "content": "json", "repeats": True},
        "content": {"content": "text"},
    },
}


@pytest.mark.parametrize(("source", "expected"), [*TEMPLATES, pytest.param(CHATML, None, id="none")])
def test_a_template_speaks_the_format_in_which_it_writes_calls(source: str, expected: ToolFormat | None) -> None:
    assert format_of_template(source) == expected
    assert format_of_template("<tool_call>\n<function=f><parameter=a>") is None


@pytest.mark.parametrize(("source", "format_"), TEMPLATES)
def test_a_formats_literals_are_what_its_template_writes(source: str, format_: ToolFormat) -> None:
    calls = [CALL] if format_.between is None else [CALL, CALL]
    called: dict[str, object] = {"role": "assistant", "content": "", "tool_calls": calls}
    messages: list[dict[str, object]] = [{"role": "user", "content": "x"}, called]
    call = format_.before + "f" + format_.middle + '{"a": [1, {"b": "é"}]}' + format_.after
    written = format_.opening + (format_.between or "").join([call] * len(calls)) + format_.closing
    rendered = ChatTemplate(source, {}).render(messages)
    assert written in rendered.replace(', "id": "abcdefghi"', "")


def test_a_mistral_list_without_a_space_is_one_too() -> None:
    found = format_of_template("{{ '[TOOL_CALLS][' }}")
    assert found is not None
    assert found.opening == "[TOOL_CALLS]["


def test_a_response_template_describes_a_known_format_or_one_of_its_own() -> None:
    assert format_of_response(HERMES_RESPONSE) == HERMES
    own = {"fields": {"tool_calls": {"open": "<call>", "close": "</call>", "content": "json"}}}
    assert format_of_response(own) is None
    assert format_of_response({"fields": {"content": {}}}) is None
    assert format_of_response({}) is None
