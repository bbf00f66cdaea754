"""Set every attack beside two honest tenants on the real base; a table, a plot, and one JSON object as the last line.

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
from harness.hostile.experiment import Act, Outcome, Scene, Script
from harness.hostile.payloads import write_material
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
"""Above it the server's log says what of a late tick was its own computing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print and judge; returns 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"attacks, with commas: {TOGETHER}, {', '.join(ATTACKS)}")
    parser.add_argument("--seconds", type=float, default=20.0, help="of an act")
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
        outcome = play(Path(name), chosen, options)
    alone, acts = judge(outcome)
    for fault in outcome.faults[:40]:
        print(fault)
    print_table(alone, acts, Console(width=220))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "plot.svg").write_text(plot(acts), encoding="utf-8")
    (options.out / "table.md").write_text(markdown(alone, acts), encoding="utf-8")
    figures = {verdict.name: verdict.figures for verdict in [alone, *acts]}
    broken = [verdict.name for verdict in acts if verdict.broken]
    print(
        json.dumps({"hostile": figures, "broken": broken, "faults": len(outcome.faults), "machine": describe_machine()})
    )
    return 1 if broken or outcome.faults else 0


def choose(names: str) -> list[tuple[str, ...]]:
    """Return the acts: the attacks of these names, or every one, and at the end all together."""
    if not names:
        return [*[(name,) for name in ATTACKS], tuple(ATTACKS)]
    acts = []
    for name in names.split(","):
        if name != TOGETHER and name not in ATTACKS:
            raise SystemExit(f"no attack is called {name!r}: {TOGETHER}, {', '.join(ATTACKS)}")
        acts.append(tuple(ATTACKS) if name == TOGETHER else (name,))
    return acts


def play(folder: Path, attacks: Sequence[tuple[str, ...]], options: argparse.Namespace) -> Outcome:
    """Serve the base and play the scene."""
    base = resolve_base(BASE)
    tokenizer = load_tokenizer(base.folder)
    shelf = Shelf(base, folder / "shelf")
    write_material(folder / "material", base.shape)
    progress = Progress("hostile")

    def prompt(number: int) -> str:
        shortest, longest = PROMPT_TOKENS
        length = shortest + number * 37 % (longest - shortest)
        return tokenizer.decode(random_prompt(length, base.shape.vocab_size, number))

    script = Script(
        act_seconds=options.seconds,
        attacks=attacks,
        yardstick_every=4,
        streams=3,
        pause_seconds=options.pause,
        cycled=CYCLED,
        questions=12,
        max_tokens=24,
        limits=LIMITS,
        folder=folder / "material",
        artifact=lambda number: Path(shelf.preset(1, first=number)[0].path).read_bytes(),
        prompt=prompt,
        on_act=lambda name, number, count: progress.show(number / count, name),
        on_end=_tell,
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
        outcome = asyncio.run(Scene(server, BASE, script).play())
    progress.end()
    return outcome


def _tell(act: Act) -> None:
    print(line(act), flush=True)
    for fault in act.faults[:3]:
        print(f"  {fault}", flush=True)


@contextmanager
def _store(*, bucket: bool) -> Iterator[dict[str, Any]]:
    """Give the flags that say where artifacts lie."""
    if not bucket:
        yield {}
        return
    with s3_server() as s3:
        yield {"artifacts": s3.new_bucket()}


if __name__ == "__main__":
    sys.exit(main())
