"""What clients write becomes a grammar, or is refused by name."""

import re

import pytest

from headmix_server.core.grammar import GrammarError
from headmix_server.text.grammars.limits import MAX_CHARACTERS
from headmix_server.text.grammars.wanted import Choice, Expression, JsonText, Language, Structure, TaggedText
from headmix_server.text.grammars.write import write_grammar

GBNF = 'root ::= "yes" | "no" [0-9]+'


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "string"}}, '"not"'),
        ({"type": "array", "uniqueItems": True}, '"uniqueItems"'),
        ({"type": "string", "format": "nope"}, "nope"),
        ({"type": "foo"}, "foo"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"x-guidance": {"lenient": True}, "not": {}}, '"not"'),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(schema: dict[str, object], named: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(named)):
        write_grammar(JsonText(schema))


def test_true_is_any_json_and_nothing_fits_false() -> None:
    assert write_grammar(JsonText(schema=True)) == write_grammar(JsonText({}))
    anything, any_json = (TaggedText((Structure("<a>", any_, "</a>"),), ("<a",)) for any_ in (True, dict[str, str]()))
    assert write_grammar(anything) == write_grammar(any_json)
    for wanted in (JsonText(schema=False), TaggedText((Structure("<a>", False, "</a>"),), ("<a",))):
        with pytest.raises(GrammarError, match="false"):
            write_grammar(wanted)


def test_whatever_is_too_large_is_refused_before_it_is_read() -> None:
    large = "a" * (MAX_CHARACTERS + 1)
    tagged = TaggedText((Structure("<a>", {"const": "b"}, large),), ("<a",))
    for wanted in (JsonText({"const": large}), Expression(large), Language(large), Choice((large,)), tagged):
        with pytest.raises(GrammarError, match="65,536"):
            write_grammar(wanted)


@pytest.mark.parametrize("expression", ["(", "(?=a)b", "\\1"])
def test_faulty_expressions_are_refused(expression: str) -> None:
    with pytest.raises(GrammarError):
        write_grammar(Expression(expression))


@pytest.mark.parametrize("choices", [[], ["a", ""], ["a"] * 10_001])
def test_choices_are_at_least_one_and_not_empty(choices: list[str]) -> None:
    with pytest.raises(GrammarError, match="choices"):
        write_grammar(Choice(tuple(choices)))


@pytest.mark.parametrize(
    "text", ["", "start: nothing", 'start: "a', "root ::= unknown", "root ::= (" * 4000, "(" * 60_000]
)
def test_faulty_grammars_are_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        write_grammar(Language(text))


def test_both_languages_of_grammars_are_read() -> None:
    write_grammar(Language(GBNF))
    write_grammar(Language('start: "yes" | "no" /[0-9]+/'))


def test_a_structure_needs_a_trigger_and_a_schema_that_can_be_enforced() -> None:
    with pytest.raises(GrammarError, match="no trigger begins"):
        write_grammar(TaggedText((Structure("<tool>", {"type": "object"}, "</tool>"),), ("<other",)))
    with pytest.raises(GrammarError, match='"not"'):
        write_grammar(TaggedText((Structure("<tool>", {"not": {}}, "</tool>"),), ("<tool",)))
    with pytest.raises(GrammarError, match="no structure"):
        write_grammar(TaggedText((), ("<tool",)))


def test_a_closed_style_closes_every_object_that_lists_its_properties_and_is_not_open_by_name() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": True}}}
    grammar = write_grammar(JsonText({"anyOf": [inner, {"type": "object"}]}, closed=True))
    assert grammar.count('"additionalProperties":false') == 1
    assert grammar.count('"additionalProperties":true') == 1
