"""Every script in examples/ runs as it is and prints what it promises, on the real bases."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.server.running_server import RunningServer, running_server

EXAMPLES = Path(__file__).parents[1] / "examples"
LONGEST = 60
BASE = Path("smollm2-135m-instruct")

PRINTED = {
    "in_process.py": ("smollm2-135m-instruct: The capital of France is Paris", "is spam (1.00)", "is ham (1.00)"),
    "train_and_serve.py": ("wrote ", "'See you at lunch?' is "),
    "openai_sdk.py": ("models: smollm2-135m-instruct", "The capital of France is Paris", '"word": "sparrow"'),
    "async_client.py": ('sparrow (animal): {"word": "sparrow"', "violin"),
    "upload_and_canary.py": ("versions 1 and 2", "promoted: now version 2", "rolled back: now version 1"),
}
ALONE = {"train_and_serve.py": ["2"], "in_process.py": []}
"""Scripts that need no server, with arguments that make them quick."""


def run(script: str, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env=os.environ | env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("examples")
    with running_server(folder, base=BASE, runner="torch", preload=EXAMPLES / "adapters", kv_cache_mib=64) as running:
        yield running


def test_every_script_is_short_and_has_a_test() -> None:
    scripts = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    del scripts["score.py"]  # how the scores in examples/README.md were measured
    assert scripts.keys() == PRINTED.keys()
    assert max(scripts.values()) <= LONGEST


@pytest.mark.parametrize("script", ALONE)
def test_a_script_that_needs_no_server_runs(script: str) -> None:
    printed = run(script, *ALONE[script])
    assert [line for line in PRINTED[script] if line not in printed] == []


@pytest.mark.parametrize("script", sorted(PRINTED.keys() - ALONE.keys()))
def test_a_script_that_asks_a_server_runs(server: RunningServer, script: str) -> None:
    printed = run(script, HEADMIX_BASE_URL=server.base_url, HEADMIX_API_KEY=server.key)
    assert [line for line in PRINTED[script] if line not in printed] == []
