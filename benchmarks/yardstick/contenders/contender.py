"""The contenders and their order: they take turns, round by round, so a noisy minute affects all of them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class Contender(Protocol):
    """Something that can run one round of a measurement."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        ...

    @property
    def rival(self) -> bool:
        """Whether it is another project's: a rival's failure is a result, a failure of headmix is an error."""
        ...

    def run(self, number: int) -> list[float]:
        """Run round `number` (0 warms up; every round has its own inputs) and return the measured values, in order."""
        ...


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What one contender measured: one list per round after the warm-up, or the reason why it could not run."""

    name: str
    rounds: list[list[float]]
    failure: str | None = None

    @property
    def values(self) -> list[float]:
        """All values of all rounds."""
        return [value for values in self.rounds for value in values]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `floors`: the best that bandwidth and peak allow, by contender, in the same unit."""

    name: str
    what: str
    unit: str
    series: list[Series]
    floors: dict[str, float] = {}

    def find(self, name: str) -> Series | None:
        """Return a contender's series if it ran."""
        return next((series for series in self.series if series.name == name and series.failure is None), None)


def interleave(contenders: Sequence[Contender], rounds: int, say: Callable[[str], None]) -> list[Series]:
    """Run every contender once to warm up, then `rounds` times; each round begins with another contender.

    Every value is kept. A rival that fails drops out, with the error's text; headmix's own errors are raised.
    """
    values: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    failures: dict[str, str] = {}
    for number in range(rounds + 1):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            if contender.name in failures:
                continue
            try:
                measured = contender.run(number)
            except Exception as error:
                if not contender.rival:
                    raise
                failures[contender.name] = f"{type(error).__name__}: {error}".strip()
                say(f"  {contender.name} cannot run: {failures[contender.name]}")
                continue
            say(f"  round {number or 'to warm up'}: {contender.name} {_short(measured)}")
            if number:
                values[contender.name].append(measured)
    return [Series(name=name, rounds=lists, failure=failures.get(name)) for name, lists in values.items()]


def _short(values: Sequence[float]) -> str:
    shown = " ".join(f"{value:.4g}" for value in values[:4])
    return f"{shown} ... ({len(values)} values)" if len(values) > 4 else shown
