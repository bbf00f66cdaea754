"""What to know before using an adapter, for example that it is no better than its base.

Owns the remarks and when to make them. They appear in a run's summary and in the artifact's header.
"""

from collections.abc import Sequence

from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.scoring.evaluate import DecidingScore, Evaluation
from headmix_adapters.train.terminal.progress import readable


def is_below(adapter: Evaluation, reference: Evaluation | None, deciding: DecidingScore) -> bool:
    """Return whether an adapter scores below the base alone or a linear classifier; False if that has no score."""
    return reference is not None and deciding.is_worse(adapter.scores, reference.scores)


def warnings(
    adapter: Evaluation,
    base: Evaluation | None,
    probe: Evaluation | None,
    deciding: DecidingScore,
    texts: tuple[Sequence[Example], Sequence[Example]],
) -> tuple[str, ...]:
    """Return the remarks on an adapter's held-out scores; `texts` are the training and the held-out examples."""
    remarks = []
    if base is not None and is_below(adapter, base, deciding):
        remarks.append(f"the adapter scores below its base: {_compared(adapter, base, deciding)}")
    if probe is not None and is_below(adapter, probe, deciding):
        compared = _compared(adapter, probe, deciding)
        remarks.append(f"the adapter scores below a linear classifier on the frozen base: {compared}")
    train, held_out = texts
    known = {tuple(example.input_ids) for example in train}
    if shared := sum(tuple(example.input_ids) in known for example in held_out):
        remarks.append(
            f"{shared} of {len(held_out)} held-out texts are also training texts: the scores say little about new texts"
        )
    return tuple(remarks)


def _compared(adapter: Evaluation, reference: Evaluation, deciding: DecidingScore) -> str:
    name = deciding.name
    return f"{readable(name)} {adapter.scores[name]:.4g}, not {reference.scores[name]:.4g}"
