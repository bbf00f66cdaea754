"""Owns the requests that turn texts into tokens and back."""

from collections.abc import Sequence

from headmix.http.request import Request, parser_of
from headmix.operations.inference.generation import turns
from headmix.types.inference.tokens import Detokenization, Tokenization
from headmix.types.params import Messages


def tokenize(
    prompt: str | None = None,
    *,
    model: str,
    messages: Messages | None = None,
    add_special_tokens: bool | None = None,
    return_token_strings: bool | None = None,
    split_special_tokens: bool | None = None,
) -> Request[Tokenization]:
    """Return the tokens of a text, or of the prompt that the chat template makes of `messages`.

    `add_special_tokens` adds those the base expects around a text, by default true. With `split_special_tokens`,
    special tokens in the texts are plain text; None means the server's setting.
    """
    options = {
        "prompt": prompt,
        "messages": None if messages is None else turns(messages),
        "add_special_tokens": add_special_tokens,
        "return_token_strings": return_token_strings,
        "split_special_tokens": split_special_tokens,
    }
    body = {"model": model} | {name: value for name, value in options.items() if value is not None}
    return Request("POST", "/tokenize", parser_of(Tokenization), json=body)


def detokenize(tokens: Sequence[int], *, model: str) -> Request[Detokenization]:
    """Return the text of tokens, special tokens included."""
    return Request("POST", "/detokenize", parser_of(Detokenization), json={"model": model, "tokens": list(tokens)})
