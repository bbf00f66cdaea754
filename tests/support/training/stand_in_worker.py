"""A worker beside a server that behaves as its second argument says, and writes what it is told to a file, its first.

python stand_in_worker.py FILE works|dies|done|stubborn
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType


def main(file: Path, behaviour: str) -> int:
    def say(line: str) -> None:
        with file.open("a") as log:
            log.write(f"{line}\n")

    def stop(_: int, __: FrameType | None) -> None:
        say("stopped")
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else stop)
    sys.stdin.readline()  # the settings
    say("started")
    if behaviour == "dies":
        return 1
    if behaviour == "done":
        return 0
    for line in sys.stdin:
        say(line.strip())
    if behaviour == "stubborn":
        time.sleep(60)
    say("orphaned")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
