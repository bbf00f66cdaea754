"""The recipe: a TOML file that fixes one training run completely.

Owns the file's keys and their limits. Unknown keys are refused with their path, so that a misspelt key never trains
something else. `adapter_spec` and `trainer` act on the keys.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from headmix_adapters.choices import choices_after, suggestion_after
from headmix_adapters.config import ClassifierConfig, ExamplePrompt, Task
from headmix_adapters.presets import PresetName
from headmix_adapters.train.data.conversation import Learn
from headmix_adapters.train.data.labels import blanks_fault
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.class_weights import ClassWeights, check_class_weights
from headmix_adapters.train.scoring.metrics import Metric, metrics_fault

Rank = Annotated[int, msgspec.Meta(ge=0, le=256)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
LARGEST = 1e9
"""The maximum for numbers without a natural limit; it excludes infinity."""
Precision = Literal["auto", "float32", "bfloat16"]
TrainedMethod = Literal["kernel-mix", "lora", "bd-lora"]
SiteName = Literal["q", "k", "v", "o", "gate_up", "down"]

_KERNEL_MIX_KEYS = ("preset", "rank_q", "rank_v", "rank_q_shared", "rank_v_shared", "value_base")
_LORA_KEYS = ("rank", "alpha", "sites")
_BLOCK_DIAGONAL_SITES = frozenset({"q", "v", "o"})


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Immutable; refuses unknown keys."""


class AdapterTable(_Table, frozen=True):
    """`[adapter]`: a preset, explicit ranks, or both; or LoRA's rank, alpha and sites.

    `bd-lora` is block-diagonal LoRA with one block for each head: head parts without a bias, all of them on the block's
    input or the heads' output. Its rank is that of each head.
    `layers` is a half-open range [first, end); if omitted, every layer is adapted.
    """

    method: TrainedMethod = "kernel-mix"
    preset: PresetName | None = None
    rank_q: Rank | None = None
    rank_v: Rank | None = None
    rank_q_shared: Rank | None = None
    rank_v_shared: Rank | None = None
    value_base: Literal["k", "x"] | None = None
    layers: tuple[int, int] | None = None
    rank: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    alpha: Annotated[float, msgspec.Meta(gt=0, le=LARGEST)] | None = None
    sites: tuple[SiteName, ...] | None = None

    def __post_init__(self) -> None:
        foreign = _LORA_KEYS if self.method == "kernel-mix" else _KERNEL_MIX_KEYS
        if given := [key for key in foreign if getattr(self, key) is not None]:
            raise ValueError(f"{', '.join(given)} do not belong to method {self.method}")
        if self.method != "kernel-mix" and (self.rank is None or not self.sites):
            raise ValueError(f"method {self.method} needs rank and sites")
        if self.method == "bd-lora" and (others := sorted(set(self.sites or ()) - _BLOCK_DIAGONAL_SITES)):
            raise ValueError(
                f"method bd-lora has no site {', '.join(others)}: only q, v and o have a part for each head"
            )
        if self.method == "kernel-mix" and not self._has_ranks():
            raise ValueError("give a preset or at least one rank above 0")
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1]:
            raise ValueError(f"layers {list(self.layers)} is not a range [first, end) with first below end")

    def _has_ranks(self) -> bool:
        ranks = (self.rank_q, self.rank_v, self.rank_q_shared, self.rank_v_shared)
        return self.preset is not None or any(rank for rank in ranks)


class DataTable(_Table, frozen=True):
    """`[data]`: data files, relative to the recipe, and the maximum length of an example in tokens.

    `learn`: which answers of a conversation are learned where the data marks none. Without `eval`, `eval_share` of the
    training file's rows are held out. `ignore` names fields of rows and messages to leave out; any other unknown field
    is refused.
    """

    train: str
    eval: str | None = None
    eval_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    max_length: Positive = 512
    learn: Learn = "last"
    ignore: tuple[str, ...] = ()


class TrainingTable(_Table, frozen=True):
    """`[training]`: AdamW on the adapter only; learning rate rises over `warmup_ratio` of the steps, then falls to 0.

    `precision` is the frozen base's in training; `auto` is float32 on a CPU and bfloat16 on a GPU. The adapter is
    always trained in float32, and scored with the base as it is served. The held-out data is scored after each epoch,
    or every `score_every` optimizer steps and at the end. `early_stopping_patience` ends training after that many
    scorings in a row without a better score, and keeps the tensors of the best. `gradient_checkpointing` computes each
    layer again in the backward pass instead of keeping what is inside it: the same tensors, less memory, more time.
    `packing` puts several texts into one row of at most `max_length` tokens; none sees another. `class_weights` are how
    much a text of each label counts in the loss; "balanced": as much as its label is rare.
    """

    epochs: Positive
    batch_size: Positive
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=LARGEST)]
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    gradient_accumulation: Positive = 1
    label_smoothing: Share = 0.0
    warmup_ratio: Share = 0.06
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=LARGEST)] = 0.0
    dropout: Share = 0.1
    max_steps: Positive | None = None
    score_every: Positive | None = None
    early_stopping_patience: Positive | None = None
    gradient_checkpointing: bool = False
    packing: bool = False
    precision: Precision = "auto"
    class_weights: ClassWeights | None = None


class SweepTable(_Table, frozen=True):
    """`[sweep]`: the values that `headmix train --sweep` tries, in every combination; `rank` is LoRA's."""

    learning_rate: tuple[Annotated[float, msgspec.Meta(gt=0, le=LARGEST)], ...] = ()
    preset: tuple[PresetName, ...] = ()
    rank: tuple[Annotated[int, msgspec.Meta(ge=1, le=256)], ...] = ()

    def __post_init__(self) -> None:
        values: list[tuple[object, ...]] = [self.learning_rate, self.preset, self.rank]
        if not any(values):
            raise ValueError("give learning_rate, preset or rank, each a list of values to try")
        if any(len(set(some)) < len(some) for some in values):
            raise ValueError("a value is listed twice")


class Recipe(_Table, frozen=True):
    """The whole file. `name` becomes the artifact's file name; `base` is anything `resolve_base` accepts.

    `chat_template` is a jinja file, relative to the recipe, that renders the adapter's chats in place of the base's.
    `added_tokens` are words that become the adapter's own tokens, with embedding rows learned in training.
    `examples` are prompts with expected answers, shown with the artifact; by default they come from the held-out data.
    `sweep` is for `headmix train --sweep` alone. `metrics` are scores to compute beyond the task's own.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    base: str
    task: Task
    adapter: AdapterTable
    data: DataTable
    training: TrainingTable
    classifier: ClassifierConfig | None = None
    chat_template: str | None = None
    added_tokens: tuple[str, ...] = ()
    examples: tuple[ExamplePrompt, ...] | None = None
    sweep: SweepTable | None = None
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        if (self.task == "classification") != (self.classifier is not None):
            needs = "needs" if self.task == "classification" else "has no"
            raise ValueError(f"task {self.task} {needs} [classifier]")
        if self.classifier is not None and self.classifier.pad_token is not msgspec.UNSET:
            raise ValueError("classifier.pad_token is for converted adapters: trained ones read the last token itself")
        if self.classifier is not None and (fault := blanks_fault(self.classifier.labels)) is not None:
            raise ValueError(f"classifier.labels: {fault}")
        if self.training.packing and self.classifier is not None:
            raise ValueError("training.packing is for generation: a classifier reads one state per row")
        if (fault := metrics_fault(self.metrics, self.classifier)) is not None:
            raise ValueError(fault)
        if self.metrics and self.added_tokens and self.classifier is None:
            raise ValueError("metrics of generated answers are not defined for a recipe with added_tokens")
        if self.training.class_weights is not None:
            check_class_weights(self.training.class_weights, self.classifier)
        foreign = "rank" if self.adapter.method == "kernel-mix" else "preset"
        if self.sweep is not None and getattr(self.sweep, foreign):
            raise ValueError(f"sweep.{foreign} does not belong to method {self.adapter.method}")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: no such file, not TOML, or an unknown, missing or invalid key; the message names file and key.
    """
    try:
        return msgspec.convert(_with_text_labels(msgspec.toml.decode(path.read_bytes())), Recipe)
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise RecipeError(f"{path}: {error}{choices_after(error, Recipe)}{suggestion_after(error, Recipe)}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except RecursionError:
        raise RecipeError(f"{path}: nested too deeply") from None


def _with_text_labels(fields: object) -> object:
    """Turn whole numbers among the labels into their digits, as in the data."""
    if isinstance(fields, dict) and isinstance(classifier := fields.get("classifier"), dict):
        labels = classifier.get("labels")
        if isinstance(labels, list):
            classifier["labels"] = [str(label) if type(label) is int else label for label in labels]
    return fields


def override(recipe: Recipe, training: Mapping[str, float]) -> Recipe:
    """Return the recipe with the command line's values overriding its own `[training]`.

    Raises:
        RecipeError: a value is out of range.
    """
    try:
        table = msgspec.convert(msgspec.to_builtins(recipe.training) | dict(training), TrainingTable)
    except msgspec.ValidationError as error:
        raise RecipeError(str(error)) from error
    return msgspec.structs.replace(recipe, training=table)
