"""Ten thousand classifiers on the encoder, few of them popular: texts per second, and how long an answer takes.

In process the requests are token ids; over HTTP a real `headmix serve` reads texts, with every classifier in its
catalog. Slots and host memory are the defaults, so most classifiers are only on disk.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.yardstick.contenders.arrivals import poisson_arrivals, zipf_choices
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.http_load import HttpLoad
from benchmarks.yardstick.contenders.in_process import classify, run_closed, run_open
from benchmarks.yardstick.contenders.over_http import serve
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.classification import random_texts
from benchmarks.yardstick.stage import Stage
from harness.server.large_catalog import fill_with
from harness.server.running_server import RunningServer
from headmix_server.core.messages import Classify
from headmix_server.core.types import AdapterRef
from headmix_server.database import open_database
from headmix_server.text.tokenizer import load_tokenizer

NAME, LATENCY = "classifiers", "classifier latency"

_folders = itertools.count()


def ours(count: int) -> str:
    """Return headmix's name in process."""
    return f"headmix, {count:,} classifiers by Zipf's law"


def over_http(count: int) -> str:
    """Return headmix's name over HTTP."""
    return f"headmix over HTTP, {count:,} classifiers by Zipf's law"


class Reached:
    """The classifiers in process and over HTTP, and the requests of a round."""

    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        self.stage = stage
        self.refs = stage.encoder_shelf.classifiers(stage.sizes.classifiers)
        self._engine = stage.encoder_engine()
        self._tokenizer = load_tokenizer(stage.encoder.folder)
        server = _serve_all(stage, self.refs, stack)
        self._http = HttpLoad(f"{server.base_url}/v1/classify", server.key)
        stack.callback(self._http.close)

    def asked(self, number: int, among: int) -> list[Classify]:
        """Return a round's texts, each for one of the first `among` classifiers by Zipf's law."""
        count = self.stage.sizes.classified
        texts = random_texts(self.stage, self.stage.encoder_shelf.vocabulary, number, count)
        chosen = zipf_choices(among, count, seed=number)
        return [classify(text, self.refs[first]) for text, first in zip(texts, chosen, strict=True)]

    def rate(self, asked: Sequence[Classify]) -> float:
        """Return texts per second in process, with a fixed number of them open."""
        return len(asked) / run_closed(self._engine, asked, self.stage.sizes.open_texts)

    def rate_over_http(self, asked: Sequence[Classify]) -> float:
        """Return texts per second over HTTP, with the same number open."""
        exchanges = self._http.closed(self._bodies(asked), self.stage.sizes.open_texts)
        complete = [exchange.due + exchange.seconds for exchange in exchanges]
        return len(asked) / (max(complete) - min(exchange.due for exchange in exchanges))

    def waits(self, asked: Sequence[Classify], arrivals: Sequence[float]) -> list[float]:
        """Return the milliseconds to each answer in process."""
        return [1000 * timed.first_token for timed in run_open(self._engine, asked, arrivals)]

    def waits_over_http(self, asked: Sequence[Classify], arrivals: Sequence[float]) -> list[float]:
        """Return the milliseconds to each answer over HTTP."""
        return [1000 * exchange.seconds for exchange in self._http.open(self._bodies(asked), arrivals)]

    def _bodies(self, asked: Sequence[Classify]) -> list[bytes]:
        return [
            json.dumps({"model": request.adapter.name, "input": self._tokenizer.decode(request.prompt) or "a"}).encode()
            for request in asked
        ]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A way to query the classifiers; `measured` takes a round's texts and its number."""

    name: str
    reached: Reached
    among: int
    measured: Callable[[Sequence[Classify], int], list[float]]
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Query the classifiers and return the measured values."""
        return self.measured(self.reached.asked(number, self.among), number)


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run all in turn: a few resident classifiers, all of them, and all of them over HTTP."""
    sizes = stage.sizes
    with ExitStack() as stack:
        reached = Reached(stage, stack)
        contenders: list[Contender] = [
            Fleet(ours(sizes.many), reached, sizes.many, lambda asked, _: [reached.rate(asked)]),
            Fleet(ours(sizes.classifiers), reached, sizes.classifiers, lambda asked, _: [reached.rate(asked)]),
            Fleet(
                over_http(sizes.classifiers),
                reached,
                sizes.classifiers,
                lambda asked, _: [reached.rate_over_http(asked)],
            ),
        ]
        series = interleave(contenders, sizes.few_rounds, stage.say)
    what = f"texts a second on the encoder, {sizes.open_texts} open at any time, classifiers by Zipf's law"
    return Measured(name=NAME, what=what, unit="texts/s", series=series)


def measure_latency(stage: Stage, _: Ceilings) -> Measured:
    """Send texts at random times at half the rate that HTTP reaches, in process and over HTTP, in turn."""
    count = stage.sizes.classifiers
    with ExitStack() as stack:
        reached = Reached(stage, stack)
        rates = [reached.rate_over_http(reached.asked(number, count)) for number in (-2, -1)]
        rate = stage.sizes.half_load * max(rates)

        def arrivals(number: int) -> list[float]:
            return poisson_arrivals(stage.sizes.classified, rate, seed=number)

        contenders: list[Contender] = [
            Fleet(ours(count), reached, count, lambda asked, number: reached.waits(asked, arrivals(number))),
            Fleet(
                over_http(count), reached, count, lambda asked, number: reached.waits_over_http(asked, arrivals(number))
            ),
        ]
        series = interleave(contenders, stage.sizes.few_rounds, stage.say)
    what = f"milliseconds to the scores of a text; Poisson arrivals, {rate:.3g} texts a second"
    return Measured(name=LATENCY, what=what, unit="ms", series=series)


def _serve_all(stage: Stage, refs: Sequence[AdapterRef], stack: ExitStack) -> RunningServer:
    folder = stage.folder / f"fleet-{next(_folders)}"
    data = folder / "data"
    data.mkdir(parents=True)
    engine = open_database(data / "headmix.db")
    fill_with(engine, refs, data / "artifacts")
    engine.dispose()
    return stack.enter_context(serve(folder, stage.encoder_name, None, stage.sizes.settings))
