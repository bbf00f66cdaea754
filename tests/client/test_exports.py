"""The package's public interface: what it exports, and what importing it loads."""

import importlib.metadata
import subprocess
import sys
from types import ModuleType

import headmix

HEAVY = {"torch", "transformers", "fastapi", "starlette", "uvicorn", "numpy", "rich", "typer"}


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules loaded in a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_all_is_exactly_what_is_exported() -> None:
    exported = {
        name for name, value in vars(headmix).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(headmix.__all__) == exported | {"__version__"}
    assert len(headmix.__all__) == len(set(headmix.__all__))
    assert all(hasattr(headmix, name) for name in headmix.__all__)


def test_everything_exported_is_documented() -> None:
    assert all(getattr(headmix, name).__doc__ for name in headmix.__all__)


def test_importing_the_client_loads_neither_torch_nor_a_web_framework_nor_the_command_line() -> None:
    assert not imported_by("import headmix") & HEAVY


def test_importing_the_command_loads_neither_torch_nor_a_web_framework() -> None:
    assert not imported_by("import headmix.cli") & (HEAVY - {"rich", "typer"})


def test_the_version_is_the_distributions_and_read_only_when_asked() -> None:
    assert "__version__" not in vars(headmix)
    assert headmix.__version__ == importlib.metadata.version("headmix")


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(headmix, "no_such_name")
