"""The form of an answer, in every way a client may write it, becomes a grammar or is refused by name."""

import random
from typing import Any

import pytest

from harness.hostile.attacks.slow_forms import SLOW_FORMS
from harness.server.api_rig import BASE, ApiRig
from headmix_server.core.messages import Generate
from headmix_server.text.grammars.wanted import Choice, Expression, JsonText, Language, Structure, TaggedText, Wanted
from headmix_server.text.grammars.write import write_grammar

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
TAGS = {
    "type": "structural_tag",
    "structures": [{"begin": "<f>", "schema": SCHEMA, "end": "</f>"}],
    "triggers": ["<f"],
}
TAGGED = TaggedText((Structure("<f>", SCHEMA, "</f>"),), ("<f",))


def body(url: str, **params: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": "Hi"}]} if url == CHAT else {"prompt": "Hi"}
    return {"model": BASE, **asked, **params}


async def grammars(rig: ApiRig, url: str, **params: Any) -> list[str | None]:
    response = await rig.client.post(url, json=body(url, **params))
    assert response.status_code == 200, response.text
    return [message.sampling.grammar for message in rig.engine.of(Generate)]


async def refusal(rig: ApiRig, url: str = CHAT, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(url, json=body(url, **params))
    assert response.status_code == 400, response.text
    assert not rig.engine.of(Generate)
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize("url", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"response_format": {"type": "json_object"}}, JsonText({"type": "object"})),
        ({"response_format": JSON_SCHEMA}, JsonText(SCHEMA)),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "any"}}}, JsonText({})),
        ({"response_format": TAGS}, TAGGED),
        ({"structured_outputs": {"json": SCHEMA}}, JsonText(SCHEMA)),
        ({"structured_outputs": {"json": '{"type": "object"}'}}, JsonText({"type": "object"})),
        ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}}, JsonText(SCHEMA, None)),
        ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": " ?"}}, JsonText(SCHEMA, " ?")),
        (
            {"structured_outputs": {"json": SCHEMA, "disable_additional_properties": True}},
            JsonText(SCHEMA, closed=True),
        ),
        ({"structured_outputs": {"json_object": True}}, JsonText({"type": "object"})),
        ({"structured_outputs": {"regex": "a+"}}, Expression("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Choice(("a", "b"))),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Language('start: "a"')),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, Language('root ::= "a"')),
        ({"guided_json": SCHEMA, "guided_whitespace_pattern": " "}, JsonText(SCHEMA, " ")),
        ({"guided_regex": "a+"}, Expression("a+")),
        ({"guided_choice": ["a", "b"], "guided_decoding_backend": "xgrammar"}, Choice(("a", "b"))),
        ({"guided_grammar": 'start: "a"'}, Language('start: "a"')),
    ],
)
async def test_every_way_of_writing_a_form_becomes_its_grammar(
    rig: ApiRig, url: str, params: dict[str, Any], wanted: Wanted
) -> None:
    assert await grammars(rig, url, **params) == [write_grammar(wanted)]


async def test_every_choice_and_every_prompt_has_the_grammar(rig: ApiRig) -> None:
    found = await grammars(rig, COMPLETIONS, prompt=["a", "b"], n=2, response_format=JSON_SCHEMA)
    assert found == [write_grammar(JsonText(SCHEMA))] * 4


async def test_a_text_is_free(rig: ApiRig) -> None:
    assert await grammars(rig, CHAT, response_format={"type": "text"}) == [None]


@pytest.mark.parametrize(
    ("params", "param", "said"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_object"),
        ({"structured_outputs": {}}, "structured_outputs", "nothing"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "not JSON"),
        ({"structured_outputs": {"json": "[" * 100_000}}, "structured_outputs.json", "too deeply"),
        ({"structured_outputs": {"structural_tag": "{"}}, "structured_outputs.structural_tag", "JSON"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex", "cannot be enforced"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "choices"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice", "both"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex", "both"),
        ({"guided_json": {"not": {}}}, "guided_json", '"not"'),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar", "'x' not found"),
        ({"response_format": {**TAGS, "triggers": ["<g"]}}, "response_format", "no trigger"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}},
            "response_format.json_schema",
            '"not"',
        ),
    ],
)
async def test_what_cannot_be_enforced_is_refused_by_name(
    rig: ApiRig, params: dict[str, Any], param: str, said: str
) -> None:
    error = await refusal(rig, **params)
    assert error["param"] == param
    assert said in error["message"]


async def test_a_form_that_takes_too_much_work_is_refused_and_others_are_not(rig: ApiRig) -> None:
    error = await refusal(rig, guided_json={"type": "integer", "multipleOf": 999_983})
    assert "processor time" in error["message"]
    assert len(await grammars(rig, CHAT, structured_outputs={"regex": "a+"})) == 1


async def test_every_slow_form_is_answered_or_refused_by_its_parameter(rig: ApiRig) -> None:
    for place, form in enumerate(SLOW_FORMS):
        ((field, _),) = (written := form(random.Random(place))).items()
        response = await rig.client.post(CHAT, json=body(CHAT, structured_outputs=written))
        assert response.status_code in (200, 400), response.text
        if response.status_code == 400:
            assert response.json()["error"]["param"] == f"structured_outputs.{field}"


async def test_a_form_is_tried_out_once_for_each_tenant(rig: ApiRig) -> None:
    for _ in range(3):
        await grammars(rig, CHAT, response_format=JSON_SCHEMA)
    assert len(rig.state.grammars) == 1


async def test_biases_least_lengths_and_bad_words_reach_the_engine(rig: ApiRig) -> None:
    params = {"logit_bias": {"5": -100, "7": 1.5}, "min_tokens": 3, "bad_words": ["fox"], "max_tokens": 9}
    response = await rig.client.post(CHAT, json=body(CHAT, **params))
    assert response.status_code == 200, response.text
    (sent,) = rig.engine.of(Generate)
    assert sent.sampling.logit_bias == ((5, -100.0), (7, 1.5))
    assert sent.sampling.min_tokens == 3
    assert sent.sampling.bad_words == (tuple(rig.encode("fox")), tuple(rig.encode(" fox")))


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"min_tokens": 10, "max_tokens": 9}, "min_tokens"),
    ],
)
async def test_biases_and_least_lengths_that_cannot_be_are_refused(
    rig: ApiRig, params: dict[str, Any], param: str
) -> None:
    assert (await refusal(rig, **params))["param"] == param
