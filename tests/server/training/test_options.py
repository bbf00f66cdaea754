import os

import pytest

from headmix_server.core.settings.settings import Settings
from headmix_server.training.options import environment, read_cores, training_options


def test_a_worker_beside_its_server_yields_has_one_thread_and_no_gpu() -> None:
    options = training_options(Settings(), beside_server=True)
    assert (options.threads, options.limits.yields, options.hides_gpu) == (1, True, True)


def test_a_worker_of_its_own_uses_the_machine() -> None:
    options = training_options(Settings(device="cuda"), beside_server=False)
    assert (options.limits.yields, options.hides_gpu) == (False, False)
    assert options.threads >= 1


def test_its_own_cores_are_its_threads_unless_those_are_set() -> None:
    core = str(min(os.sched_getaffinity(0)))
    assert training_options(Settings(train_cores=core), beside_server=True).threads == 1
    assert training_options(Settings(train_cores=core, train_threads=3), beside_server=True).threads == 3


def test_cores_are_numbers_and_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert read_cores("0,2-4") == (0, 2, 3, 4)
    assert read_cores(None) == ()


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "0-9", "-1"])
def test_other_cores_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    with pytest.raises(ValueError, match=r".+"):
        read_cores(text)


def test_a_training_gets_no_passwords_and_its_number_of_threads() -> None:
    own = {"HEADMIX_DATABASE": "postgresql://user:secret@host/name", "PATH": "/bin", "OMP_NUM_THREADS": "8"}
    assert environment(2, hides_gpu=True, own=own) == {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
