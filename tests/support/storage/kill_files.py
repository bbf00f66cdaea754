"""A real kill -9 at a chosen call to the operating system or a bucket while files change.

python -m tests.support.storage.kill_files FOLDER SCENARIO CALL
"""

import sys
from pathlib import Path

from headmix_server.database import open_database
from headmix_server.files.uploads import Uploads
from tests.server.files.test_crashes import SCENARIOS
from tests.support.storage.crash import killed_at
from tests.support.storage.files import open_in


def main(folder: str, scenario: str, call: str) -> None:
    """Run the scenario in the folder and be killed at the call."""
    engine = open_database(Path(folder) / "headmix.db")
    files = open_in(Path(folder), engine)
    with killed_at(int(call)):
        SCENARIOS[scenario][0](files, Uploads(engine, files))


if __name__ == "__main__":
    main(*sys.argv[1:])
