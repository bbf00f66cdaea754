"""The client's types: frozen models of every response, and the typed parameters of generation requests."""

from headmix.types.adapter import Adapter, AdapterVersion, Canary, DeletedAdapter, PushedAdapter, Sharing
from headmix.types.health import Health, Readiness
from headmix.types.inference.chat import (
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    ToolCall,
    ToolCallDelta,
    joined_calls,
)
from headmix.types.inference.classification import Classification, ClassificationItem
from headmix.types.inference.completion import Completion, CompletionChoice, CompletionChunk, CompletionLogprobs
from headmix.types.inference.embedding import EmbeddingItem, Embeddings
from headmix.types.inference.scoring import (
    Moderation,
    ModerationItem,
    RankedDocument,
    RankedItem,
    Ranking,
    ScoreItem,
    Scores,
)
from headmix.types.inference.tokens import Detokenization, Tokenization
from headmix.types.jobs.batch import Batch
from headmix.types.jobs.file import DeletedFile, File
from headmix.types.jobs.fine_tuning import FineTuningEvent, FineTuningJob
from headmix.types.model import DeletedModel, Model
from headmix.types.params import ChatParams, CompletionParams, SamplingParams, ScaledAdapter
from headmix.types.result import AdapterRef, Usage
from headmix.types.tenants.limits import EffectiveLimits, LimitChanges, Limits, OwnLimits
from headmix.types.tenants.tenant import AuditEntry, Key, NewKey, Tenant
from headmix.types.tenants.usage import Storage, UsageLine

__all__ = [
    "Adapter",
    "AdapterRef",
    "AdapterVersion",
    "AuditEntry",
    "Batch",
    "CalledFunction",
    "Canary",
    "ChatChoice",
    "ChatChunk",
    "ChatCompletion",
    "ChatDelta",
    "ChatMessage",
    "ChatParams",
    "Classification",
    "ClassificationItem",
    "Completion",
    "CompletionChoice",
    "CompletionChunk",
    "CompletionLogprobs",
    "CompletionParams",
    "DeletedAdapter",
    "DeletedFile",
    "DeletedModel",
    "Detokenization",
    "EffectiveLimits",
    "EmbeddingItem",
    "Embeddings",
    "File",
    "FineTuningEvent",
    "FineTuningJob",
    "Health",
    "Key",
    "LimitChanges",
    "Limits",
    "Model",
    "Moderation",
    "ModerationItem",
    "NewKey",
    "OwnLimits",
    "PushedAdapter",
    "RankedDocument",
    "RankedItem",
    "Ranking",
    "Readiness",
    "SamplingParams",
    "ScaledAdapter",
    "ScoreItem",
    "Scores",
    "Sharing",
    "Storage",
    "Tenant",
    "Tokenization",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "UsageLine",
    "joined_calls",
]
