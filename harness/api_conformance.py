"""Checks the server against its own OpenAPI document in all schemathesis phases: examples, coverage, fuzzing, stateful.

python -m harness.api_conformance --examples 50    every route; minutes, by the number of examples

`tests/server/test_openapi_conformance.py` does the same with a few routes and examples.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.machine import describe_machine
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base
from headmix_adapters.base import read_base_shape

PHASES = ("examples", "coverage", "fuzzing", "stateful")
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every phase and return schemathesis' exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.api_conformance", description=__doc__)
    parser.add_argument(
        "--examples", type=int, default=20, help="requests or scenarios drawn, for each route and phase"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = write_fake_base(folder / FAKE_BASE)
        with running_server(
            folder, base=base, preload=write_preload(folder / "preload", base), limit_refusals_per_second=0
        ) as server:
            done = run_phases(server, folder, "--max-examples", str(options.examples), "--seed", str(options.seed))
    print(done.stdout[-3000:])
    minutes = round((time.monotonic() - began) / 60, 1)
    figures = {"status": done.returncode, "minutes": minutes, "examples": options.examples, "seed": options.seed}
    print(json.dumps({"api_conformance": figures, "machine": describe_machine()}))
    return done.returncode


def write_preload(folder: Path, base: Path) -> Path:
    """Write a generator and a classifier for the server to preload, and return their folder."""
    folder.mkdir()
    shape = read_base_shape(FAKE_BASE, base)
    random_artifact(folder / "poet.safetensors", shape)
    random_artifact(folder / "judge.safetensors", shape, classifier=classifier_config("a", "b"))
    return folder


def run_phases(
    server: RunningServer, folder: Path, *options: str, phases: Sequence[str] = PHASES
) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis against a server with its admin key; it may write to `folder`."""
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.base_url}/openapi.json"),
        *(
            "--header",
            f"Authorization: Bearer {server.key}",
            "--phases",
            ",".join(phases),
            "--checks",
            ",".join(CHECKS),
        ),
        *("--continue-on-failure", "--no-color", "--warnings", "off", "--request-timeout", "60", *options),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
