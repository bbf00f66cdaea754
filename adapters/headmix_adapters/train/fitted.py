"""The result of training, and its file: a run that is stopped before its artifact is written continues from there."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.train.history.events import Scores

_FILE = "fitted.safetensors"
_KEY = "fit"


@dataclass(frozen=True, slots=True)
class Fit:
    """The adapter's tensors, the optimizer steps done, the held-out scores in order, and the steps of a full run."""

    tensors: dict[str, Tensor]
    steps: int
    curve: tuple[Scores, ...]
    planned: int = 0


class _Numbers(msgspec.Struct, frozen=True):
    steps: int
    curve: tuple[Scores, ...]
    planned: int = 0


_NUMBERS = msgspec.json.Decoder(_Numbers)


def save_fit(folder: Path, fitted: Fit) -> None:
    """Write the result of finished training to a run's folder, all or nothing."""
    numbers = msgspec.json.encode(_Numbers(fitted.steps, fitted.curve, fitted.planned)).decode()
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in fitted.tensors.items()}
    write_durably(folder / _FILE, save(tensors, metadata={_KEY: numbers}))


def load_fit(folder: Path) -> Fit | None:
    """Return the result of finished training in a run's folder, or None if training did not finish."""
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            numbers = _NUMBERS.decode(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, msgspec.DecodeError, KeyError, TypeError):
        return None
    return Fit(tensors, numbers.steps, numbers.curve, numbers.planned)
