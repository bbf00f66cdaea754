"""Converts a PEFT LoRA that was uploaded as its two files into an artifact, in a process of its own.

Owns the form fields for it and the rule that one conversion runs at a time, with tenants taking turns. What can be
converted, and how, is up to `headmix_adapters.convert`; this process never loads torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import Problem
from headmix_adapters.convert.confinement import ConversionLimits
from headmix_adapters.convert.isolated import ConversionRefused, ConversionRequest, convert_isolated
from headmix_server.core.errors import InvalidAdapter, InvalidRequest, RateLimitExceeded
from headmix_server.core.settings.settings import Settings
from headmix_server.services.turns import TooManyWaiting, Turns

CONFIG_FIELD = "config"
RETRY_SECONDS = 5
FIELDS = frozenset({CONFIG_FIELD, "labels", "problem"})


class Converter:
    """Runs conversions one after the other, each in a process of several hundred megabytes."""

    def __init__(self, settings: Settings) -> None:
        self._limits = ConversionLimits(
            seconds=settings.conversion_seconds,
            cpu_seconds=settings.conversion_cpu_seconds,
            memory_mib=settings.conversion_memory_mib,
            file_mib=settings.max_adapter_mib,
            niceness=settings.conversion_niceness,
        )
        self._most_waiting = settings.conversions_waiting
        self.turns = Turns(self._most_waiting)

    async def convert(
        self,
        base: ResolvedBase,
        tenant: str,
        weights: Path,
        fields: Mapping[str, str],
        out: Path,
        *,
        allow_mismatch: bool,
    ) -> None:
        """Write the artifact equivalent to the uploaded LoRA to `out`. Cancelling this ends its process first.

        `allow_mismatch` accepts a base whose tokenizer is read differently by transformers.

        Raises:
            InvalidRequest: labels or problem are malformed.
            InvalidAdapter: the LoRA cannot be expressed exactly, does not fit the base, or exceeds a limit; with all
                reasons.
            RateLimitExceeded: the maximum number of the tenant's conversions is already waiting.
        """
        request = ConversionRequest(
            weights=str(weights),
            config=fields[CONFIG_FIELD],
            out=str(out),
            base_folder=str(base.folder),
            base=base.shape,
            limits=self._limits,
            labels=_labels(fields.get("labels")),
            problem=_problem(fields.get("problem")),
            allow_base_mismatch=allow_mismatch,
        )
        try:
            async with self.turns.turn(tenant):
                await _run(request)
        except TooManyWaiting:
            raise RateLimitExceeded(
                f"{self._most_waiting} adapters of this tenant are waiting to be converted, the most allowed.",
                limit="conversions",
                param=CONFIG_FIELD,
                retry_after=RETRY_SECONDS,
            ) from None


async def _run(request: ConversionRequest) -> None:
    try:
        await convert_isolated(request)
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
        raise InvalidRequest("labels must be a JSON list of the classes' names.", param="labels")
    return tuple(value)


def _problem(text: str | None) -> Problem | None:
    if text is not None and text not in get_args(Problem):
        raise InvalidRequest(f"problem must be one of {', '.join(get_args(Problem))}.", param="problem")
    return cast("Problem | None", text)
