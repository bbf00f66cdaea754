"""The part of a classification head that PEFT does not save, from the model's config: which token it reads, its labels.

Read with transformers, whose defaults differ by family, so that it is what transformers' own classifier would use.
"""

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from headmix_adapters.config import Problem
from headmix_adapters.convert.errors import ConvertError

_CONFIG = "config.json"
_PROBLEMS: dict[str | None, Problem] = {
    "regression": "regression",
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
}


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """`pad_token` is the id that a decoder's head skips at the end of a text; None if it reads the last token.

    `problem` is None if the config does not say; `labels` are in the order of the scores.
    """

    pad_token: int | None = None
    problem: Problem | None = None
    labels: tuple[str, ...] = ()

    def labels_of(self, count: int) -> tuple[str, ...]:
        """Return the names of `count` labels; like transformers, ignore the config's names if their number differs."""
        return self.labels if len(self.labels) == count else tuple(f"LABEL_{index}" for index in range(count))


def read_head_config(base_folder: Path, adapter_folder: Path | None = None) -> HeadConfig:
    """Read the trained model's config if the adapter's folder has it, else the base's.

    Raises:
        ConvertError: the config in the adapter's folder is for another model type.
    """
    config = AutoConfig.from_pretrained(base_folder)
    if adapter_folder is not None and (adapter_folder / _CONFIG).is_file():
        own = AutoConfig.from_pretrained(adapter_folder)
        if own.model_type != config.model_type:
            raise ConvertError(_CONFIG, f"it is of a {own.model_type}, the base is a {config.model_type}")
        config = own
    names = config.id2label or {}
    return HeadConfig(
        pad_token=_pad_token(config),
        problem=_PROBLEMS.get(config.problem_type),
        labels=tuple(str(names[index]) for index in sorted(names)),
    )


def _pad_token(config: PretrainedConfig) -> int | None:
    """Return the padding token, or None if it is not in the vocabulary and so cannot occur in a text."""
    token, size = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", 0)
    return token if isinstance(token, int) and 0 <= token < size else None
