"""Structured output: half of workload W's requests bound to a schema, compared with all of them free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import FLOAT32, FORMS, NAMES, Stage
from headmix_server.core.messages import Generate
from headmix_server.engine.loop import Engine
from headmix_server.text.grammars.wanted import JsonText
from headmix_server.text.grammars.write import write_grammar

NAME = "structured output"
FREE, HALF_BOUND = "all free", "half of them bound to a schema"
SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    },
}
"""Of texts that are longer than any answer here, so that every request computes the same number of tokens."""


def ours(kind: str, form: str = FLOAT32) -> str:
    """Return headmix's name with requests of a kind."""
    return f"{NAMES[form]}, {kind}"


@dataclass(frozen=True, slots=True)
class Requests:
    """Workload W on an engine, with the grammar of every other request, None for none."""

    name: str
    stage: Stage
    engine: Engine
    grammar: str | None
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return output tokens per second."""
        sizes = self.stage.sizes
        requests = spread_over(self.stage.prompts(self.name, number), [], sizes.output)
        seconds = run_all(self.engine, [self._bound(request) for request in requests[::2]] + requests[1::2])
        return [len(requests) * sizes.output / seconds]

    def _bound(self, request: Generate) -> Generate:
        sampling = msgspec.structs.replace(request.sampling, grammar=self.grammar)
        return msgspec.structs.replace(request, sampling=sampling)


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run both kinds on all engines in turn, without adapters."""
    grammars = {FREE: None, HALF_BOUND: write_grammar(JsonText(SCHEMA))}
    contenders: list[Contender] = [
        Requests(ours(kind, form), stage, stage.engine_of(form), grammar)
        for form in FORMS
        for kind, grammar in grammars.items()
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    what = "output tokens a second of workload W, free and with every other request bound to a JSON schema"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)
