"""Every script in examples/ runs as it is and prints what it promises, on the real bases."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.data.prepare_intents import INTENTS, held_out, to_learn
from harness.bases.tiny_model import make_tiny_llama
from harness.server.running_server import RunningServer, running_server

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
LONGEST = 60
PATIENCE_SECONDS = 240.0
BASE = Path("smollm2-135m-instruct")

PRINTED = {
    "in_process.py": ("smollm2-135m-instruct: The capital of France is Paris", "is spam (1.00)", "is ham (1.00)"),
    "train_and_serve.py": ("wrote ", "'See you at lunch?' is "),
    "openai_sdk.py": ("models: smollm2-135m-instruct", "The capital of France is Paris", '"word": "sparrow"'),
    "async_client.py": ('sparrow (animal): {"word": "sparrow"', "violin"),
    "upload_and_canary.py": ("versions 1 and 2", "promoted: now version 2", "rolled back: now version 1"),
}
TRAINED = {"finetune_openai.py": ("upload of 8 chats", "The job has successfully completed", "kingjames-demo@1: ")}
"""Scripts that have a server train, here on a tiny base."""

ALONE = {"train_and_serve.py": ["2"], "in_process.py": []}
"""Scripts that need no server, with arguments that make them quick."""


def run(script: str, *arguments: str, seconds: float = 110, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
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
    assert scripts.keys() == PRINTED.keys() | TRAINED.keys()
    assert max(scripts.values()) <= LONGEST


@pytest.mark.parametrize("script", ALONE)
def test_a_script_that_needs_no_server_runs(script: str) -> None:
    printed = run(script, *ALONE[script])
    assert [line for line in PRINTED[script] if line not in printed] == []


@pytest.mark.parametrize("script", sorted(PRINTED.keys() - ALONE.keys()))
def test_a_script_that_asks_a_server_runs(server: RunningServer, script: str) -> None:
    printed = run(script, HEADMIX_BASE_URL=server.base_url, HEADMIX_API_KEY=server.key)
    assert [line for line in PRINTED[script] if line not in printed] == []


@pytest.mark.timeout(PATIENCE_SECONDS * 2)
def test_a_script_of_openais_fine_tuning_needs_only_url_and_key(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "tiny")
    with running_server(tmp_path, base=tmp_path / "tiny", runner="torch", train="here", train_threads=1) as server:
        printed = run("finetune_openai.py", f"{server.base_url}/v1", server.key, "8", seconds=PATIENCE_SECONDS)
    assert [line for line in TRAINED["finetune_openai.py"] if line not in printed] == []


def test_the_table_of_intents_is_what_its_script_makes_and_no_held_out_request_is_learned() -> None:
    for name, rows in (("intents.csv", to_learn()), ("intents.eval.csv", held_out())):
        with (EXAMPLES / "data" / name).open(newline="", encoding="utf-8") as file:
            assert [tuple(row) for row in csv.reader(file)] == [("text", "label"), *rows]
    assert len({text for text, _ in to_learn()}) == 200
    assert {label for _, label in to_learn()} == {label for _, label in held_out()} == set(INTENTS)
    assert not {text for text, _ in to_learn()} & {text for text, _ in held_out()}
