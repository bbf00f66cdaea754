import platform
import sys
from collections.abc import Iterator
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement

from harness.gpu import kit
from harness.gpu.kit import PLATFORMS, PRESENT, ROOTS, needs, pinned


def names(pins: list[str]) -> set[str]:
    return {pin.split("==")[0] for pin in pins}


def test_the_kit_holds_what_the_server_imports_however_deep_and_nothing_of_torch() -> None:
    packed = names(pinned(ROOTS, PRESENT))
    assert {"headmix", "fastapi", "starlette", "psycopg", "psycopg-binary", "google-re2", "pytest"} <= packed
    assert not packed & {"torch", "triton", "transformers", "numpy", "sympy", "moto", "flashinfer-python"}


def test_what_needs_another_in_a_circle_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def circle(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
        yield Requirement("pytest" if name == "pluggy" else "pluggy")

    monkeypatch.setattr(kit, "needs", circle)
    assert names(pinned(["pytest"], [])) == {"pytest", "pluggy"}


def test_needs_of_an_extra_come_with_it_alone() -> None:
    assert "fastapi" in {each.name for each in needs("headmix", ["server"])}
    assert "fastapi" not in {each.name for each in needs("headmix", [])}


@pytest.mark.skipif(sys.platform != "linux", reason="the kit's wheels are Linux'")
def test_every_wheel_of_this_environment_is_one_that_the_kit_can_download() -> None:
    for name in names(pinned(ROOTS, PRESENT)) - {"headmix"}:
        text = distribution(name).read_text("WHEEL") or ""
        tags = [line.removeprefix("Tag: ") for line in text.splitlines() if line.startswith("Tag: ")]
        platforms = [part for tag in tags for part in tag.split("-")[2].split(".")]
        assert any(one.replace(platform.machine(), "x86_64") in PLATFORMS for one in platforms), (name, tags)
