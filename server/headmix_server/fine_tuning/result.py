"""What a job ended with: the artifact that its worker trained, and later the version that the server made of it.

Owns the JSON of `JobRow.result` and `JobRow.error`.
"""

from collections.abc import Mapping

import msgspec


class StoredBytes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a worker has put among the stored files."""

    digest: str
    size_bytes: int


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that shows how training went; `id` is the tenant's file once the server has made it one."""

    filename: str
    digest: str
    size_bytes: int
    id: str | None = None


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `fine_tuned_model` is `name@version` once it is published.

    `scores` are those of `adapter`, `base` and `linear classifier` (each may be missing) on the held-out data;
    `below_base` is whether the adapter scores below its base there.
    """

    artifact: StoredBytes
    files: tuple[ResultFile, ...] = ()
    trained_tokens: int = 0
    scores: Mapping[str, Mapping[str, float]] = {}
    below_base: bool = False
    warnings: tuple[str, ...] = ()
    fine_tuned_model: str | None = None

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size in bytes of each digest that it has among the stored files."""
        of_files = {file.digest: file.size_bytes for file in self.files}
        return {**of_files, self.artifact.digest: self.artifact.size_bytes}

    def json(self) -> str:
        """Return the text that the job's row keeps."""
        return msgspec.json.encode(self).decode()


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed; `param` is the part of the request at fault, if one is. `faults` are all that were found."""

    code: str
    message: str
    param: str | None = None
    faults: tuple[str, ...] = ()

    def json(self) -> str:
        """Return the text that the job's row keeps."""
        return msgspec.json.encode(self).decode()


_TRAINED = msgspec.json.Decoder(Trained)
_ERROR = msgspec.json.Decoder(JobError)


def read_trained(text: str) -> Trained:
    """Return the result that a job's row keeps."""
    return _TRAINED.decode(text)


def read_error(text: str) -> JobError:
    """Return the error that a job's row keeps."""
    return _ERROR.decode(text)
