"""The engine process with the fake runner, each step of which takes a while as long as a file exists.

SLOW_FILE in the environment names the file; while it says HELD, no step ends. Run by `slow_server`.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

from headmix_server import worker
from headmix_server.core.runner import Batch
from headmix_server.engine.fake_runner import FakeRunner

STEP_SECONDS = 0.05
HELD = "held"


def _hold(_: Batch) -> None:
    said = _said()
    if said is not None:
        time.sleep(STEP_SECONDS)
    while said == HELD:
        time.sleep(STEP_SECONDS)
        said = _said()


def _said() -> str | None:
    """Return what the file says, None if there is none."""
    try:
        return Path(os.environ["SLOW_FILE"]).read_text()
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    with patch.object(worker, "FakeRunner", partial(FakeRunner, hold=_hold)):
        sys.exit(worker.main())
