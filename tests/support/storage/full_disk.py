"""An upload in a process whose file size the operating system limits, as on a full disk.

python -m tests.support.storage.full_disk FOLDER
"""

import resource
import sys
from pathlib import Path

from headmix_server.core.errors import InsufficientStorage
from tests.support.storage.crash import NEW, open_library, publish


def main(folder: str) -> int:
    """Upload into the folder; the exit status is the HTTP status a client would get, modulo 256."""
    library = open_library(Path(folder))
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, len(NEW) // 2))
    try:
        publish(library, NEW)
    except InsufficientStorage as error:
        return error.status % 256
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
