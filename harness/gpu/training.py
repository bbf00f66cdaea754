"""Training on a GPU next to training on the CPU: `python -m harness.gpu.training [--steps N]`; the last line is JSON.

The example `kingjames` is trained for a number of steps on the CPU in float32, and on the GPU in float32, in bfloat16,
in bfloat16 again, and with several texts to a row; those on the CPU in a process that sees no GPU. Losses are printed,
not judged, except that training twice must give the same file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.console import Console

from headmix_adapters.train.history.event_log import EventLog
from headmix_adapters.train.history.events import Event, Step
from headmix_adapters.train.history.history import history_path, read_history
from headmix_adapters.train.prepare import load_material
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.report import Reporter

RECIPE = Path("examples/kingjames.toml")
STEPS = 40


@dataclass(frozen=True, slots=True)
class Form:
    """A way to train: where, in what precision, and with how many texts to a row."""

    name: str
    on_gpu: bool
    precision: str
    packing: bool = False


FORMS = (
    Form("cpu-float32", on_gpu=False, precision="float32"),
    Form("gpu-float32", on_gpu=True, precision="float32"),
    Form("gpu-bfloat16", on_gpu=True, precision="bfloat16"),
    Form("gpu-bfloat16-again", on_gpu=True, precision="bfloat16"),
    Form("gpu-bfloat16-packed", on_gpu=True, precision="bfloat16", packing=True),
)


class Trained(msgspec.Struct, frozen=True):
    """One training's result. `losses` are those of its first and last steps; scores are of held-out text."""

    digest: str
    device: str
    step_ms: float
    tokens: int
    losses: tuple[float, float]
    base_nll: float
    adapter_nll: float


class TimedLog(EventLog):
    """A file of events that knows when each step was done."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ())
        self.times: list[float] = []

    def write(self, event: Event) -> None:
        """See `EventLog`."""
        if isinstance(event, Step):
            self.times.append(time.perf_counter())
        super().write(event)


def train(form: Form, steps: int, artifact: Path) -> Trained:
    """Train in this process; dropout is off, because a GPU draws other numbers than a CPU."""
    recipe = load_recipe(RECIPE)
    table = msgspec.structs.replace(
        recipe.training,
        precision=form.precision,
        packing=form.packing,
        max_steps=steps,
        dropout=0.0,
    )
    material = load_material(msgspec.structs.replace(recipe, training=table), RECIPE.parent)
    log = TimedLog(artifact.with_suffix(".events"))
    result = train_adapter(material, artifact, resume=False, reporter=Reporter(Console(stderr=True)), events=log)
    log.close()
    history = read_history(history_path(artifact))
    if result.base is None:
        raise RuntimeError("a generator's base has scores")
    return Trained(
        digest=result.digest,
        device=material.model.device.type,
        step_ms=statistics.median(later - earlier for earlier, later in pairwise(log.times)) * 1e3,
        tokens=history.tokens,
        losses=(history.steps[0].train_loss, history.steps[-1].train_loss),
        base_nll=result.base.scores["answer_nll"],
        adapter_nll=result.adapter.scores["answer_nll"],
    )


def run_forms(forms: Sequence[Form], steps: int) -> dict[str, Trained]:
    """Train in one process that sees the GPU, or in one that does not; return what finished."""
    command = [sys.executable, "-m", "harness.gpu.training", "--steps", str(steps)]
    command += [f"--form={form.name}" for form in forms]
    hidden = {} if all(form.on_gpu for form in forms) else {"CUDA_VISIBLE_DEVICES": ""}
    trained = {}
    with subprocess.Popen(command, env=os.environ | hidden, stdout=subprocess.PIPE, text=True) as process:
        for form, line in zip(forms, process.stdout or (), strict=False):
            trained[form.name] = msgspec.json.decode(line, type=Trained)
            print(form.name, line.strip(), flush=True)
    return trained


def problems(trained: Mapping[str, Trained], forms: Sequence[Form] = FORMS) -> list[str]:
    """Return what is wrong with the results; an empty list if nothing is."""
    found = []
    for form in forms:
        result = trained.get(form.name)
        if result is None:
            found.append(f"{form.name} failed")
            continue
        if (result.device != "cpu") != form.on_gpu:
            found.append(f"{form.name} was trained on {result.device}")
        if not result.adapter_nll < result.base_nll:
            found.append(f"{form.name} learned nothing: {result.base_nll:.4f} before, {result.adapter_nll:.4f} after")
        again = trained.get(f"{form.name}-again")
        if again is not None and again.digest != result.digest:
            found.append(f"{form.name}: the same training gave another file")
    return found


def main() -> int:
    """Train in every form, or in some and print their results."""
    parser = argparse.ArgumentParser(prog="harness.gpu.training")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--form", action="append", choices=[form.name for form in FORMS], help="train in this form, in this process"
    )
    arguments = parser.parse_args()
    if arguments.form is not None:
        with tempfile.TemporaryDirectory() as folder:
            for form in FORMS:
                if form.name in arguments.form:
                    result = train(form, arguments.steps, Path(folder) / f"{form.name}.safetensors")
                    print(msgspec.json.encode(result).decode(), flush=True)
        return 0
    trained = run_forms([form for form in FORMS if not form.on_gpu], arguments.steps)
    trained |= run_forms([form for form in FORMS if form.on_gpu], arguments.steps)
    wrong = problems(trained)
    print(json.dumps({name: msgspec.to_builtins(each) for name, each in trained.items()} | {"wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
