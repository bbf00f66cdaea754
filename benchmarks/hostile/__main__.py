"""Play the scene on the real base and say what a hostile neighbour costs; the last line is one JSON object.

python -m benchmarks.hostile            about five minutes (`make hostile`)
python -m benchmarks.hostile --acts 1   a shorter look
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.engine_rig import random_prompt
from benchmarks.hostile.scene import Outcome, Scene, Script
from benchmarks.machine import describe_machine
from benchmarks.yardstick.shelf import Shelf
from benchmarks.yardstick.spread import percentile
from headmix_adapters.base import resolve_base
from headmix_server.text.tokenizer import load_tokenizer
from tests.support.server import running_server

BASE = "smollm2-135m-instruct"
LIMITS = {"concurrent_requests": 4, "tokens_per_request": 512}
ACT_SECONDS = 30.0
PROMPT_TOKENS = (16, 300)
CYCLED = 200


def main(arguments: list[str] | None = None) -> int:
    """Play, print and judge; returns 1 where anybody saw what they should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acts", type=int, default=4, help="how often each act is played")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two attempts of each attack")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="headmix-hostile-") as name:
        outcome = play(Path(name), options.acts, options.pause)
    for fault in outcome.faults[:20]:
        print(fault)
    print(json.dumps({**figures(outcome), "machine": describe_machine()}))
    return 1 if outcome.faults else 0


def play(folder: Path, acts: int, pause: float) -> Outcome:
    """Serve the base and play the scene."""
    base = resolve_base(BASE)
    tokenizer = load_tokenizer(base.folder)
    shelf = Shelf(base, folder / "shelf")

    def prompt(number: int) -> str:
        shortest, longest = PROMPT_TOKENS
        length = shortest + number * 37 % (longest - shortest)
        return tokenizer.decode(random_prompt(length, base.shape.vocab_size, number))

    def artifact(number: int) -> bytes:
        return Path(shelf.preset(1, first=number)[0].path).read_bytes()

    script = Script(
        act_seconds=ACT_SECONDS,
        acts=acts,
        streams=3,
        floods=24,
        pause_seconds=pause,
        cycled=CYCLED,
        questions=24,
        max_tokens=24,
        limits=LIMITS,
        artifact=artifact,
        prompt=prompt,
    )
    with running_server(folder, base=Path(BASE), runner="torch") as server:
        return asyncio.run(Scene(server, BASE, script).play())


def figures(outcome: Outcome) -> dict[str, object]:
    """Return first-token times in milliseconds, their ratios and what the attacks were answered."""
    honest, hostile = outcome.with_honest, outcome.with_hostile
    return {
        "ttft_ms_p50": [round(1000 * percentile(times, 50), 1) for times in (honest, hostile)],
        "ttft_ms_p99": [round(1000 * percentile(times, 99), 1) for times in (honest, hostile)],
        "ttft_p99_ratio": round(percentile(hostile, 99) / percentile(honest, 99), 3),
        "requests": [len(honest), len(hostile)],
        "faults": len(outcome.faults),
        "attacks": dict(sorted(outcome.attacks.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
