"""Fuzz one target, or all in turn; the last line is JSON. `make fuzz TARGET=bodies MINUTES=60`.

python -m harness.fuzz bodies --minutes 60          an hour
python -m harness.fuzz all --minutes 10 --keep      and keep the shortest input of each answer in tests/fuzz/corpus
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.fuzz.record import Figures
from harness.fuzz.targets.registry import MODULES
from harness.machine import describe_machine
from harness.progress import Progress

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
LONGEST_KEPT = 8192
"""The maximum size in bytes of a kept input; a longer one only shows that long inputs are refused."""
PATIENCE_SECONDS = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, report the results, and return 1 if a fault was found."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=["all", *MODULES])
    parser.add_argument("--minutes", type=float, default=60.0, help="for each target")
    parser.add_argument("--keep", action="store_true", help="renew the kept inputs of the target")
    options = parser.parse_args(arguments)
    names = list(MODULES) if options.target == "all" else [options.target]
    results = {name: run(name, options.minutes * 60) for name in names}
    for name in names:
        _print_faults(name)
        if options.keep:
            keep(WORK / name / "kept", CORPUS / name)
    print(json.dumps({"fuzz": results, "machine": describe_machine()}))
    return 1 if any(result["faults"] for result in results.values()) else 0


def run(name: str, seconds: float) -> dict[str, Any]:
    """Run a target in its own process and return its figures."""
    folder = WORK / name
    for part in ("kept", "faults"):
        shutil.rmtree(folder / part, ignore_errors=True)
    (folder / "figures.json").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    progress, began = Progress(name), time.monotonic()
    command = [sys.executable, "-m", "harness.fuzz.run", name, str(seconds), str(folder)]
    with (folder / "log").open("w+b") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        assert process.stdout is not None
        engine = process.stdout.readline().decode().strip()
        while process.poll() is None:
            progress.show((time.monotonic() - began) / seconds, _words(engine, _figures(folder)))
            if time.monotonic() - began > seconds + PATIENCE_SECONDS:
                process.kill()
            time.sleep(1)
    progress.end()
    figures = _figures(folder)
    crashed = process.returncode != 0
    return {
        "engine": engine,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "inputs": figures.inputs,
        "answers": figures.answers,
        "faults": figures.faults + crashed,
        "slowest_seconds": figures.slowest,
        **({"ended": f"status {process.returncode}, see {folder / 'log'}"} if crashed else {}),
    }


def keep(found: Path, corpus: Path) -> None:
    """Add the inputs whose answers are missing from a corpus, and replace longer ones."""
    corpus.mkdir(parents=True, exist_ok=True)
    for file in sorted(found.glob("*.bin")):
        kept, size = corpus / file.name, file.stat().st_size
        if size <= LONGEST_KEPT and (not kept.exists() or size < kept.stat().st_size):
            shutil.copyfile(file, kept)


def _figures(folder: Path) -> Figures:
    try:
        return msgspec.json.decode((folder / "figures.json").read_bytes(), type=Figures)
    except FileNotFoundError:
        return Figures(0, 0, 0, 0.0)


def _words(engine: str, figures: Figures) -> str:
    return f"{engine}: {figures.inputs} inputs, {figures.answers} answers, {figures.faults} faults"


def _print_faults(name: str) -> None:
    for fault in sorted((WORK / name / "faults").glob("*.txt")):
        print(f"\n== {name}: {fault.with_suffix('.bin')}\n{fault.read_text(encoding='utf-8')[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
