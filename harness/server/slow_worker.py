"""The engine process with the fake runner, each step of which takes a while as long as a file exists.

SLOW_FILE in the environment names the file. Run by `slow_server`.
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


def _hold(_: Batch) -> None:
    if Path(os.environ["SLOW_FILE"]).exists():
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    with patch.object(worker, "FakeRunner", partial(FakeRunner, hold=_hold)):
        sys.exit(worker.main())
