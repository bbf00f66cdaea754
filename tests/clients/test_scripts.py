"""Other people's clients against a real server: each of their scripts ends without an error.

Their packages live in environments of their own, made by `make clients`. An environment that is missing is a skip,
but where HEADMIX_TESTS_NEED_CLIENTS is set an error.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases.tool_templates import HERMES
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients/bin/python"
NODE_MODULES = HERE / "node/node_modules"
SCRIPTS = sorted((HERE / "scripts").glob("*.py"))
MODULES = sorted((HERE / "node").glob("*.mjs"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("clients")
    base = write_fake_base(folder / FAKE_BASE, chat_template=HERMES)
    with running_server(folder, base=base) as running:
        yield running


def _need(path: Path) -> None:
    if not path.exists():
        missing = f"{path.name} is missing: make clients"
        if os.environ.get("HEADMIX_TESTS_NEED_CLIENTS"):
            pytest.fail(missing)
        pytest.skip(missing)


def _run(server: RunningServer, *command: str | Path) -> None:
    env = {"OPENAI_BASE_URL": f"{server.base_url}/v1", "OPENAI_API_KEY": server.key, "MODEL": FAKE_BASE}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env=os.environ | env, check=False, cwd=HERE
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_python_client_reads_forms_streams_and_tool_calls(server: RunningServer, script: Path) -> None:
    _need(PYTHON)
    _run(server, PYTHON, script)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_node_client_reads_forms_streams_and_tool_calls(server: RunningServer, module: Path) -> None:
    _need(NODE_MODULES)
    node = shutil.which("node")
    assert node, "node is missing"
    _run(server, node, module)
