"""A PEFT LoRA that was uploaded as its two files, turned into an artifact by a process of its own.

Owns the form's fields for it and that one conversion runs at a time. What can be converted, and how, is
`headmix_adapters.convert`'s; this process never loads torch.
"""

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

from headmix_adapters.artifact.strict_json import parse_strict
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import Problem
from headmix_adapters.convert.isolated import ConversionRefused, ConversionRequest, convert_isolated
from headmix_server.catalog.upload import Upload
from headmix_server.core.errors import InvalidAdapter, InvalidRequest, ServerOverloaded

CONFIG_FIELD = "config"
FIELDS = frozenset({CONFIG_FIELD, "labels", "problem"})
TIMEOUT_SECONDS = 120.0
_COPY_BYTES = 1 << 20


class Converter:
    """Runs conversions, each in a process of several hundred megabytes, one after the other."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def convert(
        self, base: ResolvedBase, weights: Upload, fields: Mapping[str, str], made: Upload, *, allow_mismatch: bool
    ) -> None:
        """Write the artifact that equals the uploaded LoRA to `made`.

        `allow_mismatch` accepts a base whose tokenizer transformers reads differently.

        Raises:
            InvalidRequest: labels or problem are malformed.
            InvalidAdapter: the LoRA cannot be expressed exactly, or does not fit the base; with every reason.
            ServerOverloaded: another conversion is running.
            PayloadTooLarge, InsufficientStorage: as `Upload.write`.
        """
        labels, problem = _labels(fields.get("labels")), _problem(fields.get("problem"))
        weights.finish()
        if not self._busy.acquire(blocking=False):
            raise ServerOverloaded("Another adapter is being converted; try again in a few seconds.", retry_after=5)
        try:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "converted.safetensors"
                request = ConversionRequest(
                    weights=str(weights.path),
                    config=fields[CONFIG_FIELD],
                    out=str(out),
                    base_folder=str(base.folder),
                    base=base.shape,
                    labels=labels,
                    problem=problem,
                    allow_base_mismatch=allow_mismatch,
                )
                _run(request)
                with out.open("rb") as file:
                    while data := file.read(_COPY_BYTES):
                        made.write(data)
        finally:
            self._busy.release()


def _run(request: ConversionRequest) -> None:
    try:
        convert_isolated(request, timeout=TIMEOUT_SECONDS)
    except ConversionRefused as error:
        more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
        message = f"The adapter cannot be converted exactly: {error.faults[0]}{more}."
        raise InvalidAdapter(message, faults=error.faults) from error


def _labels(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        value = parse_strict(text.encode())
    except ValueError:
        value = None
    if not isinstance(value, list) or not value or not all(isinstance(label, str) for label in value):
        raise InvalidRequest("labels is a JSON list of the classes' names.", param="labels")
    return tuple(value)


def _problem(text: str | None) -> Problem | None:
    if text is not None and text not in get_args(Problem):
        raise InvalidRequest(f"problem is one of {', '.join(get_args(Problem))}.", param="problem")
    return cast("Problem | None", text)
