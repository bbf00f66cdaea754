"""Sub-commands of the other installed parts."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from headmix.cli import plugins
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, DIGEST

PART = '''
from pathlib import Path
from typing import Annotated
import typer

def deliver(ctx: typer.Context, name: str, file: Path) -> None:
    ctx.obj.check_access()
    typer.echo("delivered " + ctx.obj.push_adapter(name, file))

def greet(name: str, loud: Annotated[bool, typer.Option(help="Shout.")] = False) -> None:
    """Greet someone."""
    typer.echo(name.upper() if loud else name)
    raise typer.Exit(3)

group = typer.Typer()

@group.command()
def one(count: int = 1) -> None:
    typer.echo(f"one {count}")

@group.command()
def two() -> None:
    import headmix_missing_library

number = 5
'''


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable, not yet imported module with commands."""
    (tmp_path / "headmix_test_part.py").write_text(PART)
    (tmp_path / "headmix_test_defect.py").write_text("import headmix_test_defect.gone\n")
    (tmp_path / "headmix_test_needy.py").write_text("import headmix_missing_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("headmix_test_part", "headmix_test_defect", "headmix_test_needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "headmix_test_part"


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """The parts installed next to the client."""
    entries = [
        EntryPoint("greet", f"{part}:greet", plugins.GROUP),
        EntryPoint("deliver", f"{part}:deliver", plugins.GROUP),
        EntryPoint("many", f"{part}:group", plugins.GROUP),
        EntryPoint("number", f"{part}:number", plugins.GROUP),
        EntryPoint("chat", f"{part}:greet", plugins.GROUP),
        EntryPoint("adapters", f"{part}:greet", plugins.GROUP),
        EntryPoint("train", "headmix_test_needy:train", plugins.GROUP),
        EntryPoint("defect", "headmix_test_defect:defect", plugins.GROUP),
    ]

    def entry_points(group: str) -> Sequence[EntryPoint]:
        return [entry for entry in entries if entry.group == group]

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def test_help_lists_them_without_importing_them(run: Run, part: str) -> None:
    shown = run("--help").stdout
    assert "greet" in shown
    assert "Train an adapter." in shown
    assert part not in sys.modules


def test_a_function_runs_with_its_arguments_and_exit_code(run: Run) -> None:
    done = run("greet", "--loud", "ann")
    assert (done.exit_code, done.stdout) == (3, "ANN\n")


def test_it_reaches_the_server_through_the_session_with_the_global_options(
    server: FakeServer, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "tone.safetensors"
    path.write_bytes(b"artifact")
    server.script("GET", "/v1/models", Reply.of({"object": "list", "data": []}))
    server.script("POST", "/v1/adapters", Reply.of(ADAPTER, 201))
    done = run("--api-key", "hm_other", "deliver", "tone", str(path))
    assert (done.exit_code, done.stdout) == (0, f"delivered tone@3 {DIGEST}\n")
    assert {received.headers["authorization"] for received in server.received} == {"Bearer hm_other"}


def test_a_server_that_refuses_the_key_ends_it_with_one_line(server: FakeServer, run: Run, tmp_path: Path) -> None:
    error = {"message": "Unknown key.", "type": "x", "param": None, "code": "invalid_api_key"}
    server.script("GET", "/v1/models", Reply.of({"error": error}, 401))
    done = run("deliver", "tone", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: Unknown key.")


def test_its_own_help_is_shown_on_request(run: Run) -> None:
    shown = run("greet", "--help")
    assert shown.exit_code == 0
    assert "headmix greet" in shown.stdout
    assert "Shout." in shown.stdout


def test_wrong_usage_of_it_exits_with_two(run: Run) -> None:
    assert run("greet").exit_code == 2
    assert run("greet", "ann", "--nonsense").exit_code == 2


def test_a_group_offers_its_commands(run: Run) -> None:
    assert run("many", "one", "--count", "2").stdout == "one 2\n"


def test_the_clients_own_commands_cannot_be_replaced(run: Run) -> None:
    assert "--interactive" in run("chat", "--help").stdout
    assert "push" in run("adapters", "--help").stdout


@pytest.mark.parametrize(("args", "extra"), [(("train",), "train"), (("many", "two"), "server")])
def test_a_missing_package_names_the_extra_that_brings_it(run: Run, args: tuple[str, ...], extra: str) -> None:
    done = run(*args)
    assert done.exit_code == 1
    assert "headmix_missing_library" in done.stderr
    assert f"pip install 'headmix[{extra}]'" in done.stderr


def test_a_defect_of_a_part_is_not_blamed_on_an_extra(run: Run) -> None:
    done = run("defect")
    assert isinstance(done.exception, ModuleNotFoundError)
    assert "pip install" not in done.stderr


def test_what_is_no_command_is_refused(run: Run) -> None:
    assert isinstance(run("number").exception, TypeError)
