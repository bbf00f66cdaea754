"""Runs a GGUF file's conversion in its own process and waits for it, passing on its progress.

Owns that process's lifetime. The conversion itself is in `convert`.
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.gguf.conversion_progress import STAGES, ConversionProgress, decode_progress, progress_of

TICK_SECONDS = 0.2

OnProgress = Callable[[ConversionProgress], None]


def run_conversion(gguf: Path, folder: Path, on_progress: OnProgress) -> None:
    """Convert `gguf` into `folder`; `on_progress` is called five times a second and ends the conversion by raising.

    Raises:
        BaseError: the file cannot be converted.
    """
    command = [sys.executable, "-m", "headmix_adapters.base.gguf.convert", str(gguf.resolve()), str(folder)]
    with tempfile.TemporaryFile() as complaints:
        # In its own process group, so that a terminal's Ctrl-C reaches only the waiting process, which handles it.
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            process_group=0,
        ) as process:
            status = _wait(process, progress_of(gguf.name, STAGES[0][0]), on_progress)
        if status or not folder.is_dir():
            raise BaseError(f"{gguf} cannot be converted: {_last_line(complaints) or f'exit status {status}'}")


def _wait(process: "subprocess.Popen[str]", progress: ConversionProgress, on_progress: OnProgress) -> int:
    """Pass on the process's progress until it exits, and end it if that fails; return its exit status."""
    told = [progress]
    reader = threading.Thread(target=_read, args=(process.stdout, told), daemon=True)
    reader.start()
    try:
        while True:
            try:
                status = process.wait(TICK_SECONDS)
            except subprocess.TimeoutExpired:
                on_progress(told[-1])
            else:
                return status
    except BaseException:
        process.kill()
        raise
    finally:
        reader.join()


def _read(lines: IO[str] | None, told: list[ConversionProgress]) -> None:
    for line in lines or ():
        if progress := decode_progress(line):
            told[:] = [progress]


def _last_line(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
