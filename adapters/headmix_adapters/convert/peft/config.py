"""A PEFT LoRA's adapter_config.json: understood in full, or refused with the field's name.

Owns what the fields mean; `module_patterns` matches patterns. Reads no tensor and does not need PEFT.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.artifact.faults import quoted
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.block_diagonal import BlockDiagonal, read_block_diagonal
from headmix_adapters.convert.peft.module_patterns import ModulePatterns
from headmix_adapters.convert.peft.new_tokens import Indices, read_indices

T = TypeVar("T")

FILE = "adapter_config.json"
# A decoder's LoRA computes the same if it was saved as an encoder-decoder's.
GENERATION_TASKS = (None, "CAUSAL_LM", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM")
CLASSIFICATION_TASK = "SEQ_CLS"

FIELDS_READ = frozenset(
    {"peft_type", "task_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "lora_bias"}
    | {"init_lora_weights", "use_bdlora", "use_dora", "trainable_token_indices"}
)
# What the tensors themselves show, what only affects training, and bookkeeping.
FIELDS_WITHOUT_EFFECT = frozenset(
    {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"}
    | {"lora_dropout", "fan_in_fan_out", "inference_mode", "eva_config", "ensure_weight_tying", "qalora_group_size"}
    | {"base_model_name_or_path", "revision", "auto_mapping", "runtime_config", "megatron_config", "megatron_core"}
    # Settings of initialisations; they have no effect unless `init_lora_weights` names that initialisation.
    | {"loftq_config", "corda_config", "lora_ga_config"}
    # Fields that other tools add to PEFT's own; so is every `..._version`.
    | {"model_type", "architectures", "torch_dtype", "dtype", "lora_dtype", "tuner_backend", "unsloth_fixed"}
    | {"lorap_lr_ratio", "lorap_emb_lr", "merge_weights", "trust_remote_code", "_name_or_path", "created_by"}
)
_VERSION = "_version"
_REASONS = {
    "use_qalora": "QALoRA pools the inputs of a quantised base",
    "target_parameters": "LoRA on bare parameters (expert weights) has no site in an artifact",
    "alora_invocation_tokens": "an activated LoRA acts on some tokens only",
    "layer_replication": "replicated layers make another base",
}
# These change the base's own weights when training begins, so the adapter only fits the changed base.
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class PeftLoraConfig:
    """The fields of a LoRA that determine what it computes."""

    task_type: str | None
    rank: int
    alpha: float
    rslora: bool
    rank_pattern: ModulePatterns[int]
    alpha_pattern: ModulePatterns[float]
    block_diagonal: BlockDiagonal | None = None
    dora: bool = False
    token_indices: Indices = ()

    def rank_of(self, module: str) -> int:
        """Return the rank of a module given by its full name in the base's model."""
        return self.rank_pattern.value_of(module, self.rank)

    def scale_of(self, module: str) -> float:
        """Return the factor on B A x, and on the bias of B, of a module."""
        rank = self.rank_of(module)
        alpha = self.alpha_pattern.value_of(module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_peft_config(folder: Path) -> PeftLoraConfig:
    """Read a folder's adapter_config.json.

    Raises:
        ConvertError: it is missing, is not a LoRA's, or uses something that an artifact cannot express exactly.
    """
    try:
        fields = parse_strict((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise ConvertError(FILE, "missing: the folder is not a PEFT adapter") from None
    except (OSError, ValueError) as error:
        raise ConvertError(FILE, f"cannot be read: {quoted(str(error))}") from None
    if not isinstance(fields, dict):
        raise ConvertError(FILE, "not a JSON object")
    _refuse_foreign(fields)
    task_type = _upper(fields.get("task_type"))
    if task_type not in (*GENERATION_TASKS, CLASSIFICATION_TASK):
        raise ConvertError("task_type", f"{_shown(task_type)} is neither generation nor classification of whole texts")
    if fields.get("use_dora") and fields.get("use_bdlora"):
        raise ConvertError("use_dora", "PEFT does not combine DoRA with use_bdlora")
    return PeftLoraConfig(
        task_type=task_type,
        rank=_rank("r", fields.get("r", 8)),
        alpha=_number("lora_alpha", fields.get("lora_alpha", 8)),
        rslora=bool(fields.get("use_rslora", False)),
        rank_pattern=_patterns(fields, "rank_pattern", _rank),
        alpha_pattern=_patterns(fields, "alpha_pattern", _number),
        block_diagonal=read_block_diagonal(fields.get("use_bdlora")),
        dora=bool(fields.get("use_dora", False)),
        token_indices=read_indices(fields.get("trainable_token_indices")),
    )


def _refuse_foreign(fields: Mapping[str, object]) -> None:
    if "peft_type" not in fields:
        raise ConvertError("peft_type", f"missing: {FILE} is not one that PEFT wrote")
    if _upper(fields["peft_type"]) != "LORA":
        shown = _shown(fields["peft_type"])
        raise ConvertError("peft_type", f"{shown} is not LORA, the one tuner an artifact can express exactly")
    for field, value in fields.items():
        if value and field not in FIELDS_READ | FIELDS_WITHOUT_EFFECT and not field.endswith(_VERSION):
            raise ConvertError(field, _REASONS.get(field, f"{_shown(value)} is not understood by this version"))
    init = fields.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INITS):
        raise ConvertError(
            "init_lora_weights",
            f"{_shown(init)} changes the base's weights, so the adapter does not fit the base as it is; save it "
            "converted to plain LoRA (path_initial_model_for_weight_conversion)",
        )


def _upper(value: object) -> object:
    """Return the value in upper case, as PEFT writes it; not all other tools that write the file do."""
    return value.upper() if isinstance(value, str) else value


def _patterns(fields: Mapping[str, object], name: str, read: Callable[[str, object], T]) -> ModulePatterns[T]:
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        raise ConvertError(name, f"{_shown(value)} is not an object")
    return ModulePatterns(name, {pattern: read(f"{name}.{pattern}", entry) for pattern, entry in value.items()})


def _rank(field: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise ConvertError(field, f"{_shown(value)} is not a positive integer")
    return value


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not value:
        raise ConvertError(field, f"{_shown(value)} is not a finite number other than 0")
    return float(value)


def _shown(value: object) -> str:
    return quoted(json.dumps(value, default=str))
