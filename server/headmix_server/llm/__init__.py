"""headmix in one process: `LLM`, its batches and their results; the engine and runner are the server's own."""

from headmix_server.core.types import SamplingParams
from headmix_server.llm.batch import Batch, Pending
from headmix_server.llm.llm import LLM
from headmix_server.llm.results import Classification, Embedding, Generation, ToolCall
from headmix_server.text.grammars.wanted import Choice, Expression, JsonText, Language, Structure, TaggedText

__all__ = [
    "LLM",
    "Batch",
    "Choice",
    "Classification",
    "Embedding",
    "Expression",
    "Generation",
    "JsonText",
    "Language",
    "Pending",
    "SamplingParams",
    "Structure",
    "TaggedText",
    "ToolCall",
]
