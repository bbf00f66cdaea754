"""Fields shared by the bodies of several routes: texts, names, usage."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from headmix_adapters.printable import printable
from headmix_server.api.schemas.body import ResponseBody

LARGEST = 2**63 - 1
"""The largest integer that messages to the engine can carry."""


def require_unicode(text: str) -> str:
    """Return the text; JSON can contain half of a surrogate pair, which is not a character and cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(require_unicode)]


def _require_printable(text: str) -> str:
    if printable(text) != text:
        raise ValueError("the text holds control characters")
    return text


Name = Annotated[Text, AfterValidator(_require_printable)]
"""A single line of text, to be read in lists and on terminals."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_list, json_schema_input_type=str | list[str])
"""On a field of several texts: a single text is read as a list of one."""


class Usage(ResponseBody):
    """Token counts: each prompt once, completions summed over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class PromptTokensDetails(ResponseBody):
    """How many of the prompts' tokens came from the prefix cache."""

    cached_tokens: int


class GenerationUsage(Usage):
    """Token counts of a generation."""

    prompt_tokens_details: PromptTokensDetails
