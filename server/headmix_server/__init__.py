"""The headmix server: an API process (asyncio, no torch) and an engine process (torch, no web).

    from headmix_server import LLM, SamplingParams

is headmix in one process, without a server. Both are imported on demand: the server's processes don't need them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headmix_server.llm import (
        LLM,
        Choice,
        Expression,
        JsonText,
        Language,
        SamplingParams,
        Structure,
        TaggedText,
        ToolCall,
    )

__all__ = [
    "LLM",
    "Choice",
    "Expression",
    "JsonText",
    "Language",
    "SamplingParams",
    "Structure",
    "TaggedText",
    "ToolCall",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headmix_server import llm

    return getattr(llm, name)
