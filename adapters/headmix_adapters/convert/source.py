"""Determines what kind of foreign adapter is at a path, and converts it accordingly."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.head_offsets import are_head_offsets, convert_head_offsets, read_safetensors
from headmix_adapters.convert.own_template import with_own_template
from headmix_adapters.convert.peft.config import FILE as PEFT_CONFIG
from headmix_adapters.convert.peft.heads.heads import HeadWish
from headmix_adapters.convert.peft.lora import convert_peft_lora
from headmix_adapters.convert.research.convert import ResearchOptions, convert_research, load_state
from headmix_adapters.convert.result import Converted
from headmix_adapters.convert.tokenizer_check import check_tokenizer

RESEARCH_FILE = "pytorch_model.bin"


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What the user may add to what the files say; `task`, `config` and `added_tokens` are for research checkpoints.

    `config` is the checkpoint's config JSON; None means config.json next to the checkpoint. `allow_base_mismatch`
    accepts different frozen weights in a research checkpoint, and a tokenizer that transformers reads differently.
    `chat_template` is a file with the template that the adapter was trained with.
    """

    head: HeadWish = field(default_factory=HeadWish)
    task: str | None = None
    config: Path | None = None
    added_tokens: tuple[str, ...] = ()
    chat_template: Path | None = None
    allow_base_mismatch: bool = False


def convert_source(source: Path, base: ResolvedBase, options: ConvertOptions | None = None) -> Converted:
    """Convert a PEFT folder, a model with heads' offsets, or a research checkpoint (a file, or pytorch_model.bin).

    Raises:
        ConvertError: it is neither, or cannot be converted exactly.
    """
    chosen = options or ConvertOptions()
    folder = source if source.is_dir() else source.parent
    return with_own_template(_convert(source, base, chosen), folder, base, chosen.chat_template)


def _convert(source: Path, base: ResolvedBase, chosen: ConvertOptions) -> Converted:
    if not chosen.allow_base_mismatch:
        check_tokenizer(base, source if source.is_dir() else source.parent)
    if (source / PEFT_CONFIG).exists():
        return convert_peft_lora(source, base, chosen.head, chosen.added_tokens)
    tensors = read_safetensors(source)
    if tensors is not None and are_head_offsets(tensors):
        return convert_head_offsets(tensors, base)
    checkpoint = source / RESEARCH_FILE if source.is_dir() else source
    if not checkpoint.is_file():
        raise ConvertError(str(source), f"a folder with {PEFT_CONFIG} or {RESEARCH_FILE}, or a checkpoint, is expected")
    if tensors is not None:
        raise ConvertError(str(source), f"it has neither {PEFT_CONFIG} nor heads' offsets (attn_v, attn_A)")
    if are_head_offsets(state := load_state(checkpoint)):
        return convert_head_offsets(state, base)
    research = ResearchOptions(
        task=chosen.task,
        lora_alpha=_lora_alpha(checkpoint, chosen.config),
        added_tokens=chosen.added_tokens or _tokens_beside(checkpoint, base.shape.vocab_size),
        allow_base_mismatch=chosen.allow_base_mismatch,
    )
    return convert_research(checkpoint, base, research, chosen.head)


def _lora_alpha(checkpoint: Path, config: Path | None) -> float:
    """Return the config JSON's lora_alpha; 0 if there is none."""
    path = config or checkpoint.with_name("config.json")
    if config is None and not path.is_file():
        return 0.0
    value = _read_object(path).get("lora_alpha", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConvertError("lora_alpha", f"{json.dumps(value)} in {path.name} is not a number")
    return float(value)


def _tokens_beside(checkpoint: Path, vocab_size: int) -> tuple[str, ...]:
    """Return the added tokens from transformers' added_tokens.json next to the checkpoint, in order of their ids."""
    path = checkpoint.with_name("added_tokens.json")
    if not path.is_file():
        return ()
    beyond = {name: number for name, number in _read_object(path).items() if isinstance(number, int)}
    return tuple(name for name, number in sorted(beyond.items(), key=lambda item: item[1]) if number >= vocab_size)


def _read_object(path: Path) -> dict[str, object]:
    try:
        value = parse_strict(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConvertError(path.name, f"cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ConvertError(path.name, "not a JSON object")
    return value
