"""`make wheel` publishes nothing that a second build does not make again."""

from pathlib import Path

import pytest

from harness.wheel import __main__ as program
from harness.wheel.build import ROOT
from headmix_server.kernels.native.build import BuildError


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the program writes."""
    out = tmp_path / "dist"
    monkeypatch.setattr("sys.argv", ["harness.wheel", "--out", str(out)])
    return out


def building(monkeypatch: pytest.MonkeyPatch, *contents: bytes) -> list[Path]:
    """Have each build write the next contents; return the trees that are built, in order."""
    left, trees = list(contents), []

    def build(out: Path, cache: Path, root: Path = ROOT) -> Path:
        trees.append(root)
        out.mkdir()
        wheel = out / "headmix.whl"
        wheel.write_bytes(left.pop(0))
        return wheel

    monkeypatch.setattr(program, "build_wheel", build)
    return trees


def test_what_two_builds_agree_on_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = building(monkeypatch, b"same", b"same")
    assert program.main() == 0
    assert trees[0] == ROOT
    assert trees[1].name == "headmix-0.1.0"  # the unpacked sdist
    assert sorted(path.name for path in run.iterdir()) == ["headmix-0.1.0.tar.gz", "headmix.whl"]


def test_builds_that_differ_are_an_error_and_nothing_is_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    building(monkeypatch, b"one", b"other")
    assert program.main() == 1
    assert "other bytes" in capsys.readouterr().err
    assert not run.exists()


def test_without_a_compiler_it_says_how_to_make_a_pure_wheel(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*_: Path) -> Path:
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(program, "build_wheel", build)
    assert program.main() == 1
    assert "pip wheel --no-deps ." in capsys.readouterr().err
    assert not run.exists()
