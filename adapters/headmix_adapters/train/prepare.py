"""Loads what a recipe names: the base, its tokenizer, and the data files, encoded."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from headmix_adapters.base import BaseError, ResolvedBase, base_positions, resolve_base, weight_files
from headmix_adapters.config import AdapterConfig
from headmix_adapters.families import Family, UnknownFamilyError, family_of
from headmix_adapters.text.base_text import BaseText, read_base_text
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError
from headmix_adapters.text.tokenizer import TokenizerError
from headmix_adapters.train.adapter_spec import adapted_layers, adapter_config
from headmix_adapters.train.added_tokens import AddedVocabulary, require_sayable
from headmix_adapters.train.data.example_prompts import examples_from
from headmix_adapters.train.data.examples import Encoded, encode_classification, encode_generation
from headmix_adapters.train.data.forms.training_rows import read_training_rows
from headmix_adapters.train.data.held_out import rows_digest, split_rows
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.recipe import Precision, Recipe

logger = logging.getLogger(__name__)

_Classes = Mapping[type, type[PreTrainedModel]]
_Load = Callable[..., tuple[PreTrainedModel, Mapping[str, Collection[str]]]]


@dataclass(frozen=True, slots=True)
class Material:
    """A recipe's base and data. `model` has the precision that serving uses on this machine; it computes the scores.

    `notes` say what of the data is left out. `held_out_rows` is an identity of the held-out rows if they are split from
    the training file; if they have a file, that is known by its digest.
    """

    recipe: Recipe
    base: ResolvedBase
    model: PreTrainedModel
    text: BaseText
    config: AdapterConfig
    layers: tuple[int, ...]
    train: Encoded
    eval: Encoded
    files: dict[str, Path]
    notes: tuple[str, ...] = ()
    held_out_rows: str | None = None


def load_material(recipe: Recipe, recipe_folder: Path) -> Material:
    """Load base, tokenizer and data of a recipe; data paths are relative to `recipe_folder`.

    Raises:
        RecipeError, DataError, BaseError: the message says where the fault is.
    """
    base = resolve_base(recipe.base)
    if recipe.task == "generation" and not base_family(base).generates:
        raise RecipeError(f"{base.name} ({base.shape.model_type}) is an encoder: it classifies and cannot generate")
    _require_positions(recipe, base)
    own_template = _read_template(recipe, recipe_folder)
    config, layers = adapter_config(recipe, base.shape, own_template), adapted_layers(recipe, base.shape)
    files = {
        "train": recipe_folder / recipe.data.train,
        "eval": recipe_folder / (recipe.data.eval or recipe.data.train),
    }
    rows, notes = _read(files, recipe)
    if recipe.examples is None:
        config = msgspec.structs.replace(config, examples=examples_from(rows["eval"], recipe.classifier))
    read = _read_text(base)
    added = AddedVocabulary(read.tokenizer, recipe.added_tokens, base.shape.vocab_size)
    text = BaseText(added.tokenizer, _compiled(own_template, read) if own_template else read.chat_template)
    encoded = {name: added.renumber(_encode(rows[name], recipe, text)) for name in files}
    model = load_model(base, precision("auto"))
    if recipe.added_tokens and not model.config.tie_word_embeddings:
        for part in encoded.values():
            require_sayable(part.examples, base.shape.vocab_size)
    return Material(
        recipe=recipe,
        base=base,
        model=model,
        text=text,
        config=config,
        layers=layers,
        train=encoded["train"],
        eval=encoded["eval"],
        files=files,
        notes=notes,
        held_out_rows=rows_digest(rows["eval"]) if recipe.data.eval is None else None,
    )


def _require_positions(recipe: Recipe, base: ResolvedBase) -> None:
    """Refuse texts longer than the base's positions before any is read: the layers would fail, or make up angles."""
    positions, longest = base_positions(base), recipe.data.max_length
    if positions is not None and longest > positions:
        raise RecipeError(
            f"data.max_length is {longest}, but {base.name} has {positions} positions: set it to {positions}"
        )


def _read_text(base: ResolvedBase) -> BaseText:
    try:
        text = read_base_text(base.folder)
    except (TokenizerError, ChatTemplateError) as error:
        raise BaseError(str(error)) from error
    for note in text.tokenizer.notes:
        logger.warning("%s: %s", base.name, note)
    return text


def _read_template(recipe: Recipe, folder: Path) -> str:
    """Return the source of the recipe's chat template; empty if it names none."""
    if recipe.chat_template is None:
        return ""
    path = folder / recipe.chat_template
    try:
        source = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"chat_template: {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"chat_template: {path}: not UTF-8 text ({error.reason})") from error
    if not source.strip():
        raise RecipeError(f"chat_template: {path} is empty")
    return source


def _compiled(source: str, base: BaseText) -> ChatTemplate:
    try:
        return ChatTemplate(source, base.tokenizer.roles)
    except ChatTemplateError as error:
        raise RecipeError(f"chat_template: {error}") from error


def precision(name: Precision) -> torch.dtype:
    """Return the precision for a recipe; `auto` means as served: bfloat16 on a GPU, float32 on a CPU."""
    if name == "auto":
        name = "bfloat16" if torch.cuda.is_available() else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def base_family(base: ResolvedBase) -> Family:
    """Return the base's family.

    Raises:
        BaseError: adapters cannot be trained on it.
    """
    try:
        return family_of(base.shape.model_type)
    except UnknownFamilyError as error:
        raise BaseError(f"{base.name}: {error}") from error


def load_model(base: ResolvedBase, dtype: torch.dtype) -> PreTrainedModel:
    """Load a base's weights, onto the GPU if there is one; for an encoder, only the layers.

    Raises:
        BaseError: the folder lacks weights the model needs.
    """
    # In bfloat16 on a CPU the fused attention's backward pass is slow: without it a step takes 19 percent less time.
    plain = dtype == torch.bfloat16 and not torch.cuda.is_available()
    generates = base_family(base).generates
    classes = cast("_Classes", MODEL_FOR_CAUSAL_LM_MAPPING if generates else MODEL_MAPPING)
    # Given a folder, transformers picks the files itself and attaches any adapter it finds among them.
    files = weight_files(base.folder)
    with _quiet_loading(), _loading(base):
        config = AutoConfig.from_pretrained(base.folder)
        load = cast("_Load", classes[type(config)].from_pretrained)
        weights = {name: tensor for path in files for name, tensor in load_file(path).items()}
        model, report = load(
            None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            attn_implementation="eager" if plain else "sdpa",
            output_loading_info=True,
            **({} if generates else {"add_pooling_layer": False}),
        )
    if missing := sorted(report["missing_keys"]):
        raise BaseError(f"{base.folder} lacks weights: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}")
    # Called on the class: transformers wraps `to` in a decorator that type checkers cannot follow.
    nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    nn.Module.eval(model)
    return model


@contextmanager
def _loading(base: ResolvedBase) -> Iterator[None]:
    """Turn whatever transformers raises for a folder it cannot load into one kind of error."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseError(f"{base.folder} cannot be loaded: {reason}") from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep transformers from listing weights of unused heads and poolers, and from showing its own progress bar."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # no types there
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # no types there


def _read(files: Mapping[str, Path], recipe: Recipe) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    """Return the rows to learn and to hold out, from two files or from one that is split, and remarks on them."""
    problem = None if recipe.classifier is None else recipe.classifier.problem
    train = read_training_rows(files["train"], problem, recipe.data.ignore)
    if recipe.data.eval is not None:
        held_out = read_training_rows(files["eval"], problem, recipe.data.ignore)
        return {"train": train.rows, "eval": held_out.rows}, train.notes + held_out.notes
    learned, kept = split_rows(train.rows, recipe.data.eval_share, recipe.training.seed)
    return {"train": learned, "eval": kept}, train.notes


def _encode(rows: Sequence[Row], recipe: Recipe, text: BaseText) -> Encoded:
    data = recipe.data
    if recipe.classifier is not None:
        return encode_classification(rows, text, recipe.classifier, data.max_length, data.ignore)
    return encode_generation(rows, text, data.max_length, data.ignore, data.learn)
