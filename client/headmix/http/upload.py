"""Owns a streamed multipart body: small fields and one file, read block by block while reporting progress.

Knows nothing about adapters or clients. Memory use does not depend on the file's size, and the body can be produced
again from the start for a second attempt.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO

from headmix.errors import InvalidArgumentError

BLOCK_SIZE = 256 * 1024

FileSource = str | os.PathLike[str] | bytes | BinaryIO
Progress = Callable[[int, int | None], None]
"""Called with (bytes done, total bytes or None if unknown)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is read from the start on each attempt: a path, bytes, or a seekable open file (left open)."""

    content: FileSource
    size: int
    start: int = 0

    @classmethod
    def of(cls, content: FileSource) -> "Source":
        """Measure the content.

        Raises:
            OSError: the path cannot be read.
            InvalidArgumentError: the file is a pipe.
        """
        if isinstance(content, bytes):
            return cls(content, len(content))
        if isinstance(content, str | os.PathLike):
            return cls(content, Path(content).stat().st_size)
        if not content.seekable():
            raise InvalidArgumentError("a file must be seekable: give a path, bytes, or a file on disk")
        start = content.tell()
        size = content.seek(0, SEEK_END) - start
        content.seek(start)
        return cls(content, size, start)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Yield the file, positioned at its start."""
        if isinstance(self.content, bytes):
            yield BytesIO(self.content)
        elif isinstance(self.content, str | os.PathLike):
            with Path(self.content).open("rb") as file:
                yield file
        else:
            self.content.seek(self.start)
            yield self.content


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart/form-data body of text fields and one file field named `file`."""

    fields: Mapping[str, str]
    source: Source
    progress: Progress | None = None
    filename: str = "adapter.safetensors"
    boundary: str = field(default_factory=lambda: f"headmix-{secrets.token_hex(16)}")

    def headers(self) -> dict[str, str]:
        """Return content type and length; sending the length lets a server refuse a large body before reading it."""
        length = len(self._head()) + self.source.size + len(self._tail())
        return {
            "Content-Type": f"multipart/form-data; boundary={self.boundary}",
            "Content-Length": str(length),
        }

    def blocks(self) -> Iterator[bytes]:
        """Yield the body, for a blocking client."""
        done = 0
        for block, counted in self._read():
            yield block
            done = self._report(done, counted)

    async def ablocks(self) -> AsyncIterator[bytes]:
        """Yield the body, for an asyncio client: reads the disk in a worker thread, calls `progress` on the loop."""
        done = 0
        reading = self._read()
        try:
            while (item := await asyncio.to_thread(next, reading, None)) is not None:
                block, counted = item
                yield block
                done = self._report(done, counted)
        finally:
            reading.close()

    def _report(self, done: int, counted: int) -> int:
        done += counted
        if self.progress is not None and counted:
            self.progress(done, self.source.size)
        return done

    def _read(self) -> Generator[tuple[bytes, int], None, None]:
        """Yield blocks of the body, each with the number of file bytes in it."""
        yield self._head(), 0
        with self.source.open() as file:
            while block := file.read(BLOCK_SIZE):
                yield block, len(block)
        yield self._tail(), 0

    def _head(self) -> bytes:
        parts = [self._part(f'name="{name}"', value) for name, value in self.fields.items()]
        named = f'name="file"; filename="{_quoted(self.filename)}"'
        file = self._part(f"{named}\r\nContent-Type: application/octet-stream", "")
        return ("".join(parts) + file.removesuffix("\r\n")).encode()

    def _part(self, disposition: str, value: str) -> str:
        return f"--{self.boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"

    def _tail(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    """Return a file's name as browsers write it into a form; what would end it early is escaped."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").encode(errors="replace").decode()
