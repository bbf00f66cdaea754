import errno
import os
from pathlib import Path

import pytest

from headmix_server.core.errors import StorageUnavailable
from headmix_server.training.job.outside import is_full, reason_of, says_full


def test_a_tenant_reads_no_path_of_the_workers_machine() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/training/job-1")
    assert reason_of(full) == "The worker's machine is in trouble (No space left on device)."
    assert reason_of(OSError("/secret")) == "The worker's machine is in trouble (OSError)."
    assert reason_of(StorageUnavailable("The bucket cannot be reached.")) == "The bucket cannot be reached."
    assert says_full(str(full))
    assert not says_full("the loss is not finite")


def test_a_folder_is_full_if_no_small_file_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_full(tmp_path)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    assert is_full(tmp_path)
