"""Every `sh` and `python` block in the documentation runs as it is, or its marker says why not.

One shell runs a page from top to bottom, in its own folder that looks like a clone of the repository. For blocks that
start a server, the pages share one with the Makefile's flags.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.server.running_server import RunningServer, running_server
from headmix.cli import build_app
from tests.support.doc_blocks import PROGRAMS, ROOT, Block, blocks, pages, parse, to_run

ELSEWHERE = {
    ("docs/api.md", "sh"): "tests/server/api/test_docs.py",
    ("docs/client.md", "python"): "tests/client/test_docs.py",
    ("docs/in-process.md", "python"): "tests/server/llm/test_docs.py",
    ("docs/training.md", "python"): "tests/adapters/train/test_documented_trainer.py",
}
"""Blocks that need their own setup, and the tests that run them."""

SERVERS = {"make serve": ".headmix", "make serve-minilm": ".headmix-minilm"}
"""Blocks that start a server, and where it keeps its key."""

FILES = {"README.md": {"my-task.safetensors": "examples/adapters/kingjames.safetensors"}}
"""Files that a page assumes, and what replaces them."""

PRINTED = {
    "README.md": ["The capital of France is Paris", "spam@1", '"word"'],
    "docs/quickstart.md": ["Thou hast read my letter", "spam    1.0", "get_weather"],
    "docs/tutorials/serve.md": ["greeting@2", "x-headmix-adapter: greeting@2 sha256:", "Thou hast read my letter"],
    "docs/tutorials/train.md": ["wrote adapters/reviews.safetensors", "sound", "The battery died at once"],
    "docs/tutorials/lora.md": [
        "adapter_config.json",
        "Thou hast read my letter",
        "my-lora-2@1",
        "1,745,280",
        "3,176,064",
    ],
    "docs/tutorials/teams.md": ["refused, as it should be\n", "key.create"],
    "docs/how-to/roll-out.md": ['version="', "support@1"],
    "docs/how-to/install.md": ["native kernels, compiled "],
    "docs/how-to/monitor.md": ['"ready"', 'headmix_requests_total{adapter="spam"'],
}
"""Some of the output that pages show: a page whose commands run but print something else is wrong too."""

ADDRESS = "127.0.0.1:8000"
SECONDS = 240
"""How long a page may take: a dozen programs, some of which load torch, on a possibly busy machine."""


def run_here(page: str) -> list[Block]:
    """Return a page's blocks that this module runs, in order."""
    return [
        block
        for block in blocks(page)
        if block.language in PROGRAMS and block.reason is None and (page, block.language) not in ELSEWHERE
    ]


class Servers:
    """The servers that pages need, each started on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._running: dict[str, RunningServer] = {}

    def get(self, target: str) -> RunningServer:
        """Return the server that a Makefile target starts."""
        if target not in self._running:
            flags, folder = serve_flags(target), self._folder / SERVERS[target]
            assert flags.get("data_dir", ".headmix") == SERVERS[target]
            started = running_server(
                folder,
                base=Path(flags.get("base", "smollm2-135m-instruct")),
                data_dir=folder,
                preload=ROOT / flags["preload"],
                runner="torch",
                kv_cache_mib=64,
            )
            self._running[target] = self._stack.enter_context(started)
        return self._running[target]

    def close(self) -> None:
        """Stop them."""
        self._stack.close()


def serve_flags(target: str) -> dict[str, str]:
    """Return the flags of `headmix serve` in a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target.removeprefix('make ')}:.*\n\t\$\(BIN\)/headmix serve (.*)$", makefile, re.MULTILINE)
    assert found, target
    words = shlex.split(found[1])
    return {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.close()


def script(page: Sequence[Block], servers: Servers) -> str:
    """Return the page as one shell script; a server's address takes the place of the usual one."""
    lines = ["set -euo pipefail", "export PATH=.venv/bin:$PATH"]
    address = ADDRESS
    for block in page:
        lines.append(f"echo '== {block}' >&2")
        if block.text.strip() in SERVERS:
            server = servers.get(block.text.strip())
            address = server.base_url.removeprefix("http://")
            lines.append(f"export HEADMIX_BASE_URL={server.base_url} HEADMIX_API_KEY={server.key}")
        elif block.language == "sh":
            lines.append(block.text.replace(ADDRESS, address))
        else:
            lines.append(f"python - <<'END_OF_PYTHON'\n{block.text.replace(ADDRESS, address)}END_OF_PYTHON")
    return "\n".join(lines)


def lay_out(folder: Path, page: str, servers: Servers) -> None:
    """Make a folder look like a clone in which the page's servers were started."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".curlrc").write_text("fail-with-body\nshow-error\n", encoding="utf-8")
    for block in run_here(page):
        if (command := block.text.strip()) in SERVERS and not (folder / SERVERS[command]).exists():
            (folder / SERVERS[command]).symlink_to(servers.get(command).data_dir)
    for name, source in FILES.get(page, {}).items():
        (folder / name).symlink_to(ROOT / source)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("page", [page for page in pages() if run_here(page)])
def test_every_block_of_a_page_runs(page: str, servers: Servers, tmp_path: Path) -> None:
    lay_out(tmp_path, page, servers)
    done = subprocess.run(
        ["bash", "-c", script(run_here(page), servers)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [text for text in PRINTED.get(page, ()) if text not in done.stdout] == [], done.stdout
    refused = sum(block.text.count('echo "refused') for block in run_here(page))
    assert done.stdout.count("refused, as it should be") == refused


def environment(folder: Path) -> Mapping[str, str]:
    """Return the environment of a new user's shell, in which HTTP errors make curl fail."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("HEADMIX_")}
    return usual | {"CURL_HOME": str(folder), "PYTHONWARNINGS": "ignore"}


@pytest.mark.drift
@pytest.mark.parametrize("page", pages())
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in blocks(page):
        assert block.reason is None or len(block.reason) > 10, block
        assert all((ROOT / file).is_file() for file in re.findall(r"\S+\.(?:py|md)\b", block.reason or "")), block


def commands() -> Iterator[tuple[str, str]]:
    """Yield the `headmix` commands of blocks that are not run, and where they are."""
    for page in pages():
        for block in blocks(page):
            if block.language == "sh" and block.reason is not None:
                lines = block.text.replace("\\\n", " ").splitlines()
                found = [re.search(r"\bheadmix [a-z].*", line) for line in lines]
                yield from ((str(block), match[0]) for match in found if match)


@pytest.mark.drift
@pytest.mark.parametrize(("place", "command"), list(commands()))
def test_a_command_that_is_not_run_exists_with_its_options(place: str, command: str) -> None:
    words = shlex.split(command.partition(" | ")[0], comments=True)[1:]
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), words))[:3]
    for depth in range(len(names), 0, -1):
        shown = CliRunner().invoke(build_app(), [*names[:depth], "--help"], env={"COLUMNS": "200"})
        if shown.exit_code == 0:
            break
    assert shown.exit_code == 0, place
    assert [word for word in words if word.startswith("--") and word not in shown.stdout] == [], place


@pytest.mark.drift
@pytest.mark.parametrize(("page", "language"), ELSEWHERE)
def test_blocks_that_are_run_elsewhere_are_all_taken_there(page: str, language: str) -> None:
    test = (ROOT / ELSEWHERE[page, language]).read_text(encoding="utf-8")
    assert f'to_run("{page}", "{language}")' in test
    assert to_run(page, language)


def test_a_block_with_a_reason_is_not_run_and_any_other_is() -> None:
    text = (
        "<!-- not run: needs a GPU -->\n```sh\na\n```\n\n"
        "1. Indented\n\n   ```python\n   if b:\n       c\n   ```\n\n```json\n{}\n```\n"
    )
    first, second, third = parse("page.md", text)
    assert (first.reason, first.text, first.line) == ("needs a GPU", "a\n", 2)
    assert (second.reason, second.text, second.line) == (None, "if b:\n    c\n", 8)
    assert third.language == "json"


@pytest.mark.parametrize(
    "text",
    [
        "```\nheadmix chat\n```\n",
        "```bash\nheadmix chat\n```\n",
        "```console\n$ headmix chat\n```\n",
        "<!-- not run: needs a GPU -->\n\nMore text.\n\n```sh\na\n```\n",
        "So:\n\n    headmix chat\n",
        "<!-- not run -->\n```sh\na\n```\n",
        "<!-- Not run: needs a GPU -->\n```sh\na\n```\n",
    ],
)
def test_a_block_that_might_escape_the_tests_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md"):
        parse("page.md", text)
