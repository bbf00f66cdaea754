"""Run every attack next to two honest tenants on the real base; print a table, a plot, and JSON as the last line.

python -m harness.hostile                          every attack, a quarter of an hour (`make hostile`)
python -m harness.hostile --only long_prompt       one attack; several with commas; `together` is all at once
python -m harness.hostile --seconds 5 --pause 0.5  a shorter and gentler look
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.adapters.shelf import Shelf
from harness.hostile.attacks.registry import ATTACKS
from harness.hostile.experiment import Experiment, ExperimentPlan, Outcome, Phase
from harness.hostile.payloads import write_payloads
from harness.hostile.report import judge, line, markdown, plot, print_table
from harness.machine import describe_machine
from harness.progress import Progress
from harness.random_prompt import random_prompt
from harness.server.running_server import running_server
from harness.server.s3_server import s3_server
from headmix_adapters.base import resolve_base
from headmix_server.text.tokenizer import load_tokenizer

BASE = "smollm2-135m-instruct"
LIMITS = {"concurrent_requests": 4, "tokens_per_request": 512}
PROMPT_TOKENS = (16, 300)
CYCLED = 24
TOGETHER = "together"
WARN_SECONDS = 0.05
"""Above this lag, the server's log says how much of a late tick was its own computing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and evaluate; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"attacks, with commas: {TOGETHER}, {', '.join(ATTACKS)}")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a phase")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds each attacking client waits after an attempt")
    parser.add_argument(
        "--bucket", action="store_true", help="artifacts lie in an S3 bucket (moto) and not in a folder"
    )
    parser.add_argument("--threads", type=int, default=0, help="the engine computes with; 0 takes every core")
    parser.add_argument("--max-batch-tokens", type=int, default=512, help="of a step")
    parser.add_argument("--runner", default="torch", help="fake: a quick look at the API process, without a model")
    parser.add_argument("--out", type=Path, default=Path("build/hostile"), help="folder of the table and the plot")
    options = parser.parse_args(arguments)
    chosen = choose(options.only)
    with tempfile.TemporaryDirectory(prefix="headmix-hostile-") as name:
        outcome = run(Path(name), chosen, options)
    alone, phases = judge(outcome)
    for fault in outcome.faults[:40]:
        print(fault)
    print_table(alone, phases, Console(width=220))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "plot.svg").write_text(plot(phases), encoding="utf-8")
    (options.out / "table.md").write_text(markdown(alone, phases), encoding="utf-8")
    figures = {verdict.name: verdict.figures for verdict in [alone, *phases]}
    broken = [verdict.name for verdict in phases if verdict.broken]
    print(
        json.dumps({"hostile": figures, "broken": broken, "faults": len(outcome.faults), "machine": describe_machine()})
    )
    return 1 if broken or outcome.faults else 0


def choose(names: str) -> list[tuple[str, ...]]:
    """Return the phases: the attacks with these names, or each one and finally all together."""
    if not names:
        return [*[(name,) for name in ATTACKS], tuple(ATTACKS)]
    phases = []
    for name in names.split(","):
        if name != TOGETHER and name not in ATTACKS:
            raise SystemExit(f"no attack is called {name!r}: {TOGETHER}, {', '.join(ATTACKS)}")
        phases.append(tuple(ATTACKS) if name == TOGETHER else (name,))
    return phases


def run(folder: Path, attacks: Sequence[tuple[str, ...]], options: argparse.Namespace) -> Outcome:
    """Serve the base and run the experiment."""
    base = resolve_base(BASE)
    tokenizer = load_tokenizer(base.folder)
    shelf = Shelf(base, folder / "shelf")
    write_payloads(folder / "payloads", base.shape)
    progress = Progress("hostile")

    def prompt(number: int) -> str:
        shortest, longest = PROMPT_TOKENS
        length = shortest + number * 37 % (longest - shortest)
        return tokenizer.decode(random_prompt(length, base.shape.vocab_size, number))

    plan = ExperimentPlan(
        phase_seconds=options.seconds,
        attacks=attacks,
        baseline_every=4,
        streams=3,
        pause_seconds=options.pause,
        cycled=CYCLED,
        questions=12,
        max_tokens=24,
        limits=LIMITS,
        folder=folder / "payloads",
        artifact=lambda number: Path(shelf.preset(1, first=number)[0].path).read_bytes(),
        prompt=prompt,
        on_phase=lambda name, number, count: progress.show(number / count, name),
        on_end=_print_phase,
    )
    with (
        _store(bucket=options.bucket) as flags,
        running_server(
            folder,
            base=Path(BASE),
            runner=options.runner,
            threads=options.threads,
            max_batch_tokens=options.max_batch_tokens,
            loop_lag_warn_seconds=WARN_SECONDS,
            **flags,
        ) as server,
    ):
        outcome = asyncio.run(Experiment(server, BASE, plan).run())
    progress.end()
    return outcome


def _print_phase(phase: Phase) -> None:
    print(line(phase), flush=True)
    for fault in phase.faults[:3]:
        print(f"  {fault}", flush=True)


@contextmanager
def _store(*, bucket: bool) -> Iterator[dict[str, Any]]:
    """Yield the flags that say where artifacts are stored."""
    if not bucket:
        yield {}
        return
    with s3_server() as s3:
        yield {"artifacts": s3.new_bucket()}


if __name__ == "__main__":
    sys.exit(main())
