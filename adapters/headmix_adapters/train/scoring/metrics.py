"""The scores a recipe may ask for beyond a task's own, by name. Knows the names and their tasks; loads no torch."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal

from headmix_adapters.config import ClassifierConfig

Metric = Literal["micro_f1", "binary_f1", "mcc", "pearson", "spearman", "exact_match", "rouge_l", "bleu", "chrf"]
_TASKS: Mapping[str, Sequence[Metric]] = MappingProxyType(
    {
        "generation": ("exact_match", "rouge_l", "bleu", "chrf"),
        "single_label": ("micro_f1", "binary_f1", "mcc"),
        "multi_label": ("micro_f1",),
        "regression": ("pearson", "spearman"),
    }
)
_BY_SACREBLEU = frozenset({"bleu", "chrf"})


def metrics_fault(metrics: Sequence[Metric], classifier: ClassifierConfig | None) -> str | None:
    """Return why these cannot be computed for a task, or None; `classifier` is None for generation."""
    task = "generation" if classifier is None else classifier.problem
    if foreign := [name for name in metrics if name not in _TASKS[task]]:
        return f"metrics: {foreign[0]} is not defined for {task}, which has {', '.join(_TASKS[task])}"
    if "binary_f1" in metrics and classifier is not None and len(classifier.labels) != 2:
        return f"metrics: binary_f1 needs two labels, and there are {len(classifier.labels)}"
    if _BY_SACREBLEU & set(metrics) and find_spec("sacrebleu") is None:
        return "metrics: bleu and chrf need sacrebleu: pip install 'headmix[metrics]'"
    return None
