"""What is shown while an adapter trains: the events, and the wording that every display shares. Knows no models."""

from collections.abc import Callable, Mapping

_BY_EPOCH = frozenset({"loss", "accuracy", "macro_f1", "mean_squared_error", "answer_nll", "answer_perplexity"}) | {
    *("micro_f1", "binary_f1", "mcc", "pearson", "spearman")
}
_DECIDING = ("accuracy", "mean_squared_error", "answer_nll")
_NAMES = {
    "macro_f1": "macro F1",
    "mean_squared_error": "mean squared error",
    "answer_nll": "loss",
    "answer_perplexity": "perplexity",
    "answer_tokens": "answer tokens",
    "micro_f1": "micro F1",
    "binary_f1": "binary F1",
    "mcc": "MCC",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "decoded_answers": "decoded answers",
    "asked_texts": "texts asked",
}
_KEPT = 0.9
"""The share of the moving average that each step keeps."""


class Progress:
    """Receives the events of one training and shows nothing."""

    def begin(self, done: int, total: int, epochs: int) -> None:
        """Begin training, from optimizer step `done` to `total`."""

    def wants(self, step: int) -> bool:
        """Return whether it is time to show a step."""
        return False

    def step(self, step: int, epoch: float, loss: float) -> None:
        """Show a step, `epoch` epochs into the training; `loss` is the mean of the steps since the last one shown."""

    def epoch(self, number: int, loss: float | None, scores: Mapping[str, float]) -> None:
        """Show the held-out scores after an epoch; `loss` is the mean of its steps."""

    def scored(self, step: int, loss: float | None, scores: Mapping[str, float]) -> None:
        """Show the held-out scores within an epoch; `loss` is the mean of the steps since the last ones."""

    def stopping(self) -> None:
        """Report that a stop was requested; called from a signal handler."""

    def end(self) -> None:
        """End: training is over, whatever the reason."""


class TimedProgress(Progress):
    """What every display of training shares: when a step is due, the smoothed loss, and the wording."""

    def __init__(self, every: float, clock: Callable[[], float]) -> None:
        self.total = self.epochs = 0
        self._every = every
        self.clock = clock
        self._due = 0.0
        self._step = 0
        self._loss: float | None = None

    def begin(self, done: int, total: int, epochs: int) -> None:
        """Remember the last step, and wait a moment before showing the first."""
        self.total, self.epochs = total, epochs
        self._due = self.clock() + self._every

    def wants(self, step: int) -> bool:
        """Return whether enough time has passed, or this is the last step."""
        now = self.clock()
        if now < self._due and step < self.total:
            return False
        self._due = now + self._every
        return True

    def smoothed(self, step: int, loss: float) -> float:
        """Return the moving average including the loss of the steps up to this one: single steps fluctuate."""
        kept = 0.0 if self._loss is None else _KEPT ** (step - self._step)
        self._step, self._loss = step, kept * (self._loss or 0.0) + (1 - kept) * loss
        return self._loss

    def deciding(self, scores: Mapping[str, float]) -> str:
        """Return the score that people look at first, with its name; empty if there is none."""
        name = next((name for name in _DECIDING if name in scores), None)
        return "" if name is None else f"{readable(name)} {scores[name]:.4g}"

    def epoch_line(self, number: int, loss: float | None, scores: Mapping[str, float]) -> str:
        """Return an epoch's losses and scores as one line."""
        return f"epoch {number} of {self.epochs}: {_results(loss, scores)}"

    def step_line(self, step: int, loss: float | None, scores: Mapping[str, float]) -> str:
        """Return the losses and scores after a step as one line."""
        return f"step {step} of {self.total}: {_results(loss, scores)}"


def _results(loss: float | None, scores: Mapping[str, float]) -> str:
    learned = "" if loss is None else f"loss {loss:.4g}; "
    held_out = ", ".join(f"{readable(name)} {value:.4g}" for name, value in scores.items() if name in _BY_EPOCH)
    return f"{learned}held out: {held_out}"


def readable(score: str) -> str:
    """Return a score's name in readable form."""
    return _NAMES.get(score, score)


def rate(per_second: float) -> str:
    """Return a speed in steps per second, or in seconds per step if it is slow."""
    return f"{per_second:.1f} steps/s" if per_second >= 1 or not per_second else f"{1 / per_second:.1f} s/step"


def duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
