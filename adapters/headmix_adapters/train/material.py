"""What a recipe names, loaded: the base, its tokenizer, the encoded data files."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_adapters.config import AdapterConfig
from headmix_adapters.train.examples import Encoded, encode_classification, encode_generation
from headmix_adapters.train.plan import adapted_layers, adapter_config
from headmix_adapters.train.recipe import Precision, Recipe
from headmix_adapters.train.rows import read_rows


@dataclass(frozen=True, slots=True)
class Material:
    """A recipe's base and data. `model` has the precision the base is served in here; scores are taken with it."""

    recipe: Recipe
    base: ResolvedBase
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: AdapterConfig
    layers: tuple[int, ...]
    train: Encoded
    eval: Encoded
    files: dict[str, Path]


def load_material(recipe: Recipe, recipe_folder: Path) -> Material:
    """Load base, tokenizer and data of a recipe; data paths are relative to `recipe_folder`.

    Raises:
        RecipeError, DataError, BaseError: with the place of the fault.
    """
    base = resolve_base(recipe.base)
    config, layers = adapter_config(recipe, base.shape), adapted_layers(recipe, base.shape)
    files = {"train": recipe_folder / recipe.data.train, "eval": recipe_folder / recipe.data.eval}
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    encoded = {name: _encode(path, recipe, tokenizer) for name, path in files.items()}
    model = load_model(base, precision("auto"))
    return Material(recipe, base, model, tokenizer, config, layers, encoded["train"], encoded["eval"], files)


def precision(name: Precision) -> torch.dtype:
    """Return the precision a recipe asks for; auto is how the base is served: bfloat16 on a GPU, float32 on a CPU."""
    if name == "auto":
        name = "bfloat16" if torch.cuda.is_available() else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def load_model(base: ResolvedBase, dtype: torch.dtype) -> PreTrainedModel:
    """Load a base's weights onto the GPU where there is one."""
    # On a CPU in bfloat16 the fused attention's backward pass is slow: 19 percent of a training step saved without it.
    plain = dtype == torch.bfloat16 and not torch.cuda.is_available()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=dtype, attn_implementation="eager" if plain else "sdpa"
    )
    # Called on the class: transformers wraps `to` in a decorator whose type no checker can follow.
    nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    nn.Module.eval(model)
    return model


def _encode(path: Path, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    rows = read_rows(path)
    if recipe.classifier is not None:
        return encode_classification(rows, tokenizer, recipe.classifier, recipe.data.max_length)
    return encode_generation(rows, tokenizer, recipe.data.max_length)
