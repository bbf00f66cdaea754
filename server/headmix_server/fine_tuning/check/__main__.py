"""`python -m headmix_server.fine_tuning.check`: one check, requested on standard input by `run`."""

import sys
import threading
from pathlib import Path

import msgspec

from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.confinement import confine, exit_with_parent
from headmix_server.fine_tuning.check.checked import Checked
from headmix_server.fine_tuning.check.data import check_data
from headmix_server.fine_tuning.check.run import CheckRequest, decode_check_request
from headmix_server.fine_tuning.result import JobError


def main() -> None:
    """Check, and print what was found as JSON."""
    asked = decode_check_request(sys.stdin.buffer.readline())
    confine(asked.limits, mapped_bytes=0)
    threading.Thread(target=exit_with_parent, args=(sys.stdin.fileno(),), name="parent-watch", daemon=True).start()
    sys.stdout.buffer.write(msgspec.json.encode(_check(asked)))
    sys.stdout.flush()


def _check(asked: CheckRequest) -> Checked:
    base = ResolvedBase(asked.base.name, Path(asked.base_folder), asked.base)
    try:
        return check_data(asked.request, Path(asked.folder), base, most_labels=asked.most_labels)
    except MemoryError:
        message = f"checking the data takes more than {asked.limits.memory_mib} MiB of memory"
        return Checked(error=JobError(code="invalid_training_file", message=message, param="training_file"))


if __name__ == "__main__":
    main()
