"""A model of random weights that must call tools does: every call fits, however the answer is cut."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from harness.bases.tiny_model import make_tiny_llama
from harness.bases.tool_templates import HERMES as TEMPLATE
from headmix_server import LLM, SamplingParams, ToolCall
from headmix_server.core.errors import InvalidRequest
from headmix_server.core.types import FinishReason
from headmix_server.text.grammars.wanted import ToolCalls, ToolSchema
from headmix_server.text.tools.formats import HERMES
from headmix_server.text.tools.reader import ToolReader
from tests.server.llm.conftest import SMALL
from tests.server.text.tools.read import read

SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"enum": [1, 2, 3]}},
        "required": ["city", "days"],
    },
    "switch": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    "now": {},
}
TOOLS = tuple(ToolSchema(name, schema) for name, schema in SCHEMAS.items())
REQUESTS = 200


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[LLM]:
    make_tiny_llama(tmp_path / "base")
    with LLM(str(tmp_path / "base"), **SMALL | {"kv_cache_mib": 4}) as llm:
        yield llm


def test_two_hundred_required_calls_in_a_row_fit_and_read_the_same_in_pieces(roomy: LLM) -> None:
    form = ToolCalls(HERMES, TOOLS, required=True, several=False)
    sampling = SamplingParams(max_tokens=160, temperature=1.5, seed=7)
    answers = roomy.generate([[1 + n % 400, 5] for n in range(REQUESTS)], sampling=sampling, form=form)
    names = set()
    for one in answers:
        assert one.finish_reason is FinishReason.STOP
        whole = read(ToolReader(HERMES, frozenset(SCHEMAS), eager=True), [one.text])
        assert read(ToolReader(HERMES, frozenset(SCHEMAS), eager=True), list(one.text)) == whole
        ((name, arguments),) = whole.calls
        jsonschema_rs.validate(SCHEMAS[name] or {"type": "object"}, json.loads(arguments))
        assert (whole.content, whole.cut) == ("", False)
        names.add(name)
    assert names == set(SCHEMAS)


def test_a_chat_with_tools_has_its_calls(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "base", {"max_position_embeddings": 1024})
    (tmp_path / "base" / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tools = [{"type": "function", "function": {"name": name, "parameters": one}} for name, one in SCHEMAS.items()]
    question = [{"role": "user", "content": "Hm?"}]
    form = ToolCalls(HERMES, TOOLS, required=True, several=False)
    sampling = SamplingParams(max_tokens=160, temperature=1.5, seed=3)
    with LLM(str(tmp_path / "base"), **SMALL | {"kv_cache_mib": 4}) as llm:
        (answer,) = llm.chat(question, tools=tools, form=form, sampling=sampling)
        (raw,) = llm.generate(
            llm._model.encode(llm._model.render(question, tools=tools), None, add_special_tokens=False),
            form=form,
            sampling=sampling,
        )
    (call,) = answer.tool_calls
    jsonschema_rs.validate(SCHEMAS[call.name] or {"type": "object"}, json.loads(call.arguments))
    assert call == ToolCall(*read(ToolReader(HERMES, frozenset(SCHEMAS)), [raw.text]).calls[0])
    assert (answer.text, answer.reasoning, raw.tool_calls) == ("", "", ())
    assert answer.tokens == raw.tokens


def test_a_chat_template_without_tools_says_so(roomy: LLM) -> None:
    with pytest.raises(InvalidRequest, match="no tools"):
        roomy.chat([{"role": "user", "content": "x"}], tools=[{"type": "function", "function": {"name": "f"}}])
