"""Memory budgets for adapters: as set, or a share of what is free, never zero."""

import pytest

from headmix_server.core import adapter_memory as module
from headmix_server.core.adapter_memory import LEAST, MIB, MOST_ON_GPU, AdapterMemory, adapter_memory
from headmix_server.core.settings.settings import Settings


@pytest.fixture(autouse=True)
def eight_gib_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 8192 * MIB)


def test_each_tier_has_a_quarter_of_what_is_free_and_not_promised() -> None:
    assert adapter_memory(Settings()) == AdapterMemory(2048 * MIB, 2048 * MIB)
    assert adapter_memory(Settings(), promised=4096 * MIB) == AdapterMemory(1024 * MIB, 1024 * MIB)
    assert adapter_memory(Settings(), promised=9000 * MIB) == AdapterMemory(LEAST, LEAST)


def test_a_gpu_gives_a_quarter_up_to_a_bound() -> None:
    assert adapter_memory(Settings(), free_on_gpu=8000 * MIB).device == 2000 * MIB
    assert adapter_memory(Settings(), free_on_gpu=80_000 * MIB).device == MOST_ON_GPU


def test_settings_are_taken_as_they_are() -> None:
    settings = Settings(adapter_memory_mib=7, host_adapter_mib=9)
    assert adapter_memory(settings, promised=9000 * MIB, free_on_gpu=1) == AdapterMemory(7 * MIB, 9 * MIB)
