"""Advice on how long to train, from the held-out scores during training. Knows only numbers."""

import math
from collections.abc import Sequence

from headmix_adapters.train.history.events import Scores
from headmix_adapters.train.recipe.recipe import TrainingTable

_CLEAR = 0.02
"""The relative change beyond which a loss is called rising or falling."""
_SHARE = 0.1
"""The loss is called still falling if the last epoch contributed at least this share of the whole fall."""
_FEW_TEXTS = 100
_FEW_STEPS = 50
_LOSSES = ("loss", "answer_nll", "mean_squared_error")


def advise(
    curve: Sequence[Scores], table: TrainingTable, *, steps: int, planned: int, held_out: int
) -> tuple[str, ...]:
    """Return what the held-out scores suggest, in the order in which they were computed.

    `steps` is the number of optimizer steps done, of `planned`; `held_out` is the number of held-out texts.
    """
    name = next((name for name in _LOSSES if curve and all(name in scores for scores in curve)), None)
    losses = [] if name is None else [scores[name] for scores in curve]
    accuracies = [scores["accuracy"] for scores in curve if "accuracy" in scores]
    said = []
    if losses:
        if table.score_every is None:
            remark = _on_epochs(losses, accuracies, table, steps)
        else:
            remark = _on_steps(losses, accuracies, table, steps, planned)
        said += [remark] if remark else []
    return (*said, *caution(curve[-1], held_out)) if curve else tuple(said)


def caution(scores: Scores, held_out: int) -> tuple[str, ...]:
    """Return what to keep in mind when scores on so many held-out texts are compared."""
    if "accuracy" not in scores or held_out >= _FEW_TEXTS:
        return ()
    # Two standard deviations of an accuracy of one half.
    return (f"with {held_out} held-out texts, accuracies less than {held_out**-0.5:.2f} apart may be chance",)


def _on_epochs(losses: Sequence[float], accuracies: Sequence[float], table: TrainingTable, steps: int) -> str | None:
    """Return the advice from one loss per epoch."""
    patience, count = table.early_stopping_patience, len(losses)
    if patience is not None and count < table.epochs:
        return f"stopped after epoch {count} of {table.epochs}: no better held-out score for {patience} epochs"
    # With patience the best epoch's tensors are the result, whatever came later.
    overfitted = None if patience is not None else _overfitted(losses, accuracies)
    return overfitted or _few(losses, steps) or _more(losses)


def _on_steps(
    losses: Sequence[float], accuracies: Sequence[float], table: TrainingTable, steps: int, planned: int
) -> str | None:
    """Return the advice from losses that are not one per epoch: only what can be said of steps."""
    if table.early_stopping_patience is None:
        return _overfitted(losses, accuracies, table.score_every)
    if steps >= planned:
        return None
    patience = table.early_stopping_patience
    return f"stopped after step {steps} of {planned}: no better held-out score in {patience} scorings"


def _overfitted(losses: Sequence[float], accuracies: Sequence[float], every: int | None = None) -> str | None:
    """Return the remark on a loss that has risen; `every` is the number of steps between losses, None for an epoch."""
    lowest = min(losses)
    best = losses.index(lowest) + 1
    if losses[-1] - lowest < _CLEAR * abs(lowest):
        return None
    where = f"epoch {best}" if every is None else f"step {best * every}"
    risen = f"the held-out loss has risen since {where}, from {lowest:.4g} to {losses[-1]:.4g}"
    shorter = f"--epochs {best}" if every is None else f"--max-steps {best * every}"
    if accuracies and accuracies[-1] >= max(accuracies):
        return f"{risen}, though the accuracy has not fallen: {shorter} would be as good"
    return f"{risen}: overfitted; use {shorter}, or early_stopping_patience in the recipe"


def _few(losses: Sequence[float], steps: int) -> str | None:
    if steps >= _FEW_STEPS:
        return None
    enough = math.ceil(2 * _FEW_STEPS * len(losses) / max(steps, 1))
    return f"{steps} optimizer steps are few: try --epochs {enough}, or a smaller --batch-size"


def _more(losses: Sequence[float]) -> str:
    count = len(losses)
    if count == 1:
        return "one epoch does not show whether more would help; --epochs 3 would"
    fall, total = losses[-2] - losses[-1], losses[0] - losses[-1]
    # The learning rate ends at 0, so the last epoch's fall is small: compare it with the whole fall.
    if total >= _CLEAR * abs(losses[-1]) and fall >= _SHARE * total:
        words = f"from {losses[-2]:.4g} to {losses[-1]:.4g} in the last epoch"
        return f"the held-out loss was still falling, {words}: more may help, for example --epochs {2 * count}"
    return "the held-out loss has levelled off: more epochs would change little"
