"""Parameters that other servers support and this one does not, with the values that ask for nothing.

Client libraries send these values by default, so they are accepted and dropped; any other value would change the output
and is refused by name. docs/api.md lists them, and a test compares it with these tables.
"""

from collections.abc import Mapping
from types import MappingProxyType

Neutral = Mapping[str, tuple[object, ...]]
"""Values that ask for nothing, by parameter. Null always does if `RequestBody.drops_null` is set."""

GENERATION: Neutral = MappingProxyType(
    {
        "include_stop_str_in_output": (False,),
        "length_penalty": (1,),
        "guided_decoding_backend": ("auto", "guidance", "xgrammar", "outlines", "lm-format-enforcer"),
        "priority": (0,),
        "return_token_ids": (False,),
        "return_tokens_as_token_ids": (False,),
        "spaces_between_special_tokens": (True,),
        "use_beam_search": (False,),
    }
)
"""On both generation routes: OpenAI's parameters, and vLLM's at their defaults."""

COMPLETIONS: Neutral = MappingProxyType({**GENERATION, "add_special_tokens": (True,)})

CHAT: Neutral = MappingProxyType(
    {
        **GENERATION,
        "add_special_tokens": (False,),
        "best_of": (1,),
        "echo": (False,),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "include_reasoning": (True,),
        "modalities": (["text"],),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
    }
)

MESSAGE: Neutral = MappingProxyType(
    {
        "annotations": ([],),
        "reasoning_details": ([],),
        "refusal": ("",),
        "thinking_blocks": ([],),
    }
)

RESPONSES: Neutral = MappingProxyType(
    {
        "background": (False,),
        "store": (False,),
        "truncation": ("disabled",),
    }
)

TEXT: Neutral = MappingProxyType({"verbosity": ("medium",)})
"""Of a response."""

REASONING: Neutral = MappingProxyType({"effort": ("none",)})
"""Of a response."""

CLASSIFY: Neutral = MappingProxyType({"add_special_tokens": (True,), "priority": (0,)})

EMBEDDINGS: Neutral = MappingProxyType({**CLASSIFY, "embed_dtype": ("float32",), "endianness": ("native", "little")})

FINE_TUNING: Neutral = MappingProxyType({"integrations": ([],)})


def asks_for_nothing(value: object, neutral: tuple[object, ...]) -> bool:
    """Return whether the value is one of the neutral ones; unlike in Python, `true` does not equal 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)
