"""What a body says about the tokens of its answer: the form they make, biases of single tokens, and words it bans.

Owns how the several names for a form become one. What a form means, `text.grammars` knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from headmix_server.api.inference.prepare import Prepared
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.api.schemas.structured import ResponseFormat, StructureBody, StructuredOutputs, TagsBody
from headmix_server.core.errors import InvalidRequest
from headmix_server.core.grammar import GrammarError
from headmix_server.text.grammars.wanted import (
    WHITE_SPACE,
    Choice,
    Expression,
    JsonText,
    Language,
    Structure,
    TaggedText,
    Wanted,
)
from headmix_server.text.tokenizer import Tokenizer

_ANY_JSON: Mapping[str, Any] = {}
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Steering:
    """See `SamplingParams`, whose fields these become."""

    grammar: str | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()


class Form(NamedTuple):
    """What is wanted, and the parameter that says so."""

    wanted: Wanted
    param: str


async def steering_of(prepared: Prepared, body: SamplingBody, form: Form | None) -> Steering:
    """Return what the body says of the tokens of its answer; `form` is what they make: see `form_of`.

    Raises:
        ClientGone: the client has left.
        InvalidRequest: the form cannot be enforced; a token id is not one of the model's.
        ServerOverloaded, PayloadTooLarge: as `GrammarBook.write`.
    """
    vocabulary = prepared.vocabulary
    return Steering(
        grammar=await _grammar(prepared, form),
        logit_bias=_biases(body.logit_bias or {}, vocabulary.size),
        bad_words=_bad_words(vocabulary.tokenizer, body.bad_words or []),
    )


async def _grammar(prepared: Prepared, form: Form | None) -> str | None:
    if form is None:
        return None
    tenant = prepared.admission.tenant
    try:
        return await until_disconnected(prepared.request, prepared.state.grammars.write(tenant, form.wanted))
    except GrammarError as error:
        raise InvalidRequest(f"{form.param} cannot be enforced: {error}.", param=form.param) from error


def form_of(body: SamplingBody) -> Form | None:
    """Return what the body wants of its answer's form, None for any text.

    Raises:
        InvalidRequest: it says so in several ways, or not completely.
    """
    forms = [*_response_format(body.response_format), *_structured(body.structured_outputs), *_guided(body)]
    if len(forms) > 1:
        first, second = forms[0].param, forms[1].param
        raise InvalidRequest(f"{first} and {second} both say what form the answer has; one is taken.", param=second)
    return forms[0] if forms else None


def _response_format(given: ResponseFormat | None) -> list[Form]:
    param = "response_format"
    match given:
        case None | ResponseFormat(type="text"):
            return []
        case ResponseFormat(type="json_object"):
            return [Form(JsonText(_ANY_OBJECT), param)]
        case ResponseFormat(type="json_schema", json_schema=None):
            raise InvalidRequest("response_format.json_schema is missing.", param="response_format.json_schema")
        case ResponseFormat(type="json_schema", json_schema=named):
            schema = _ANY_JSON if named is None or named.schema_ is None else named.schema_
            return [Form(JsonText(schema), "response_format.json_schema")]
        case _:
            return [Form(_tagged(given.structures or [], given.triggers or []), param)]


def _structured(given: StructuredOutputs | None) -> list[Form]:
    if given is None:
        return []
    space = None if given.disable_any_whitespace else given.whitespace_pattern or WHITE_SPACE
    closed = bool(given.disable_additional_properties)
    forms: dict[str, Wanted] = {}
    if given.json_ is not None:
        forms["json"] = JsonText(given.json_, space, closed)
    if given.json_object:
        forms["json_object"] = JsonText(_ANY_OBJECT, space, closed)
    if given.regex is not None:
        forms["regex"] = Expression(given.regex)
    if given.choice is not None:
        forms["choice"] = Choice(tuple(given.choice))
    if given.grammar is not None:
        forms["grammar"] = Language(given.grammar)
    if given.structural_tag is not None:
        forms["structural_tag"] = _parsed_tags(given.structural_tag)
    if not forms:
        raise InvalidRequest("structured_outputs says nothing of the answer's form.", param="structured_outputs")
    return [Form(wanted, f"structured_outputs.{name}") for name, wanted in forms.items()]


def _guided(body: SamplingBody) -> list[Form]:
    forms: dict[str, Wanted] = {}
    if body.guided_json is not None:
        forms["guided_json"] = JsonText(body.guided_json, body.guided_whitespace_pattern or WHITE_SPACE)
    if body.guided_regex is not None:
        forms["guided_regex"] = Expression(body.guided_regex)
    if body.guided_choice is not None:
        forms["guided_choice"] = Choice(tuple(body.guided_choice))
    if body.guided_grammar is not None:
        forms["guided_grammar"] = Language(body.guided_grammar)
    return [Form(wanted, name) for name, wanted in forms.items()]


def _parsed_tags(text: str) -> TaggedText:
    param = "structured_outputs.structural_tag"
    try:
        tags = TagsBody.model_validate_json(text)
    except ValidationError as error:
        raise InvalidRequest(f"{param}: {error.errors()[0]['msg']}", param=param) from error
    return _tagged(tags.structures, tags.triggers)


def _tagged(structures: list[StructureBody], triggers: list[str]) -> TaggedText:
    return TaggedText(tuple(Structure(part.begin, part.schema_, part.end) for part in structures), tuple(triggers))


def _biases(given: Mapping[str, float], size: int) -> tuple[tuple[int, float], ...]:
    biases: dict[int, float] = {}
    for token, bias in given.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 20 and int(token) < size):
            raise InvalidRequest(f"logit_bias takes token ids below {size}, not {token[:32]!r}.", param="logit_bias")
        biases[int(token)] = bias
    return tuple(biases.items())


def _bad_words(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return words as tokens, as they begin a text and as they follow a space (as in vLLM)."""
    spellings = [text for word in words for text in (word, f" {word.lstrip()}")]
    return tuple(dict.fromkeys(ids for text in spellings if (ids := _tokens(tokenizer, text))))


def _tokens(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    if not tokenizer.needs_copy(text):
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    token = tokenizer.token_id(text.lstrip())
    if token is None:
        raise InvalidRequest("A bad word may be a token that the adapter adds, not contain one.", param="bad_words")
    return (token,)
