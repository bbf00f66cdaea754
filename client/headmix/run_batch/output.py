"""Owns the output file: answers are appended and synced, and a file that is there already is continued."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

SYNC_SECONDS = 1.0


class Output:
    """An output file open for appending; `done` are the ids that have an answer, `failed` how many are errors.

    A line that an interrupted run left half-written is removed. `clock` is monotonic, in seconds.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: the file has a line that is no answer.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.done: set[str] = set()
        self.failed = 0
        self._clock = clock
        self._synced = clock()
        self._file = file.open("ab+")
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    def _resume(self) -> None:
        self._file.seek(0)
        end = 0
        for number, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                break
            end += len(text)
            try:
                answer = json.loads(text)
                self._count(answer["custom_id"], answer["response"])
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"line {number} is not an answer of a batch") from error
        self._file.truncate(end)

    def _count(self, custom_id: str, response: dict[str, object] | None) -> None:
        self.done.add(custom_id)
        status = None if response is None else response["status_code"]
        self.failed += not (isinstance(status, int) and status < 400)

    def add(self, custom_id: str, status: int, request_id: str | None, body: bytes) -> None:
        """Append an answer."""
        try:
            read: object = json.loads(body)
        except ValueError:
            read = body.decode(errors="replace")
        response: dict[str, object] = {"status_code": status, "request_id": request_id, "body": read}
        line = {"id": f"batch_req_{len(self.done) + 1}", "custom_id": custom_id, "response": response, "error": None}
        self._file.write(json.dumps(line, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
        self._count(custom_id, response)
        if self._clock() - self._synced >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Make sure that what was added survives a crash."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = self._clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync()
        self._file.close()
