"""The README is correct: its commands, targets, links and snippet."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headmix.cli import build_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "examples/README.md", "DECISIONS.md")]
README = (ROOT / "README.md").read_text()
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]
SHELL = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.drift
@pytest.mark.parametrize("command", [line for line in SHELL if line.startswith("headmix ")])
def test_each_command_exists_with_its_options(command: str) -> None:
    args = shlex.split(command)[1:]
    names = args[:2] if args[0] in ("adapters", "jobs") else args[:1]
    shown = CliRunner().invoke(build_app(), [*names, "--help"])
    assert shown.exit_code == 0
    assert all(option in shown.stdout for option in args if option.startswith("--"))


@pytest.mark.drift
def test_each_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"serve", "test"} <= named <= targets


@pytest.mark.drift
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_and_named_file_exists(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.drift
def test_the_architecture_names_only_files_that_exist() -> None:
    named = set(
        re.findall(
            r"`((?:api|text|engine|device|kernels|models|catalog|tenancy|core)/[a-z_/]+\.py)`",
            (ROOT / "ARCHITECTURE.md").read_text(),
        )
    )
    missing = [name for name in named if not (ROOT / "server/headmix_server" / name).exists()]
    assert named
    assert not missing
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 160


def test_the_python_snippet_is_valid() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(snippet, "README.md", "exec")
