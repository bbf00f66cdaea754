"""Prompts with text before and behind what is generated, in the tokens that a base was trained to fill in with.

The forms are those of code models with byte-level tokenizers, such as StarCoder, Granite, Qwen's coders and DeepSeek's
coders: a token, the text before, a token, the text behind, a token. Which of them a model has, its vocabulary shows,
the adapter's added tokens included.
"""

from collections.abc import Sequence

from headmix_server.api.inference.prompts import Room, Vocabulary
from headmix_server.core.errors import UnsupportedParameter
from headmix_server.text.tokenizer import Tokenizer

FORMS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
)


def fill_tokens(tokenizer: Tokenizer) -> tuple[int, int, int] | None:
    """Return the tokens before the text, between it and the suffix, and behind that; None if there are none."""
    if not tokenizer.byte_level:  # other tokenizers change the beginning of each text
        return None
    for form in FORMS:
        ids = [number for text in form if (number := tokenizer.token_id(text)) is not None]
        if len(ids) == len(form):
            before, between, behind = ids
            return before, between, behind
    return None


async def fill_in_prompts(
    vocabulary: Vocabulary, given: Sequence[str | Sequence[int]], suffix: str, room: Room, *, split: bool
) -> list[list[int]]:
    """Return the prompts whose completions stand between each given text, or its ids, and the suffix.

    Raises:
        UnsupportedParameter: the model has no tokens to fill in with.
        HeadmixServerError: as `Vocabulary.prompts`.
    """
    tokens = fill_tokens(vocabulary.tokenizer)
    if tokens is None:
        raise UnsupportedParameter(
            "The parameter 'suffix' is not supported by this model: its vocabulary has no tokens to fill in with.",
            param="suffix",
        )
    before, between, behind = tokens
    texts = [one for one in given if isinstance(one, str) and one]
    *read, end = await vocabulary.pieces([*texts, suffix], room, split=split)
    beginnings = iter(read)
    first = vocabulary.tokenizer.encode("")[: vocabulary.tokenizer.around[0]]
    prompts = []
    for one in given:
        beginning = (next(beginnings) if one else []) if isinstance(one, str) else one
        prompts.append([*first, before, *beginning, between, *end, behind])
    return await vocabulary.prompts(prompts, room, split=split)
