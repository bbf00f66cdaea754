"""How much a base in bfloat16 or int8 loses: perplexity on a real text, compared with float32's."""

from dataclasses import dataclass

from benchmarks.perplexity import perplexity, read_chunks
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import BFLOAT16, INT8, Stage
from headmix_server.engine.loop import Engine

NAME = "perplexity"
OURS, OURS_BFLOAT16, OURS_INT8 = "headmix", "headmix bfloat16", "headmix int8"


@dataclass(frozen=True, slots=True)
class Scoring:
    """An engine that scores the text; its score is always the same, so one round is enough."""

    name: str
    engine: Engine
    chunks: list[list[int]]
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return the perplexity; no warm-up is needed."""
        return [perplexity(self.engine, self.chunks)] if number else []


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Score the text with all three."""
    sizes = stage.sizes
    chunks = [chunk[: sizes.chunk_tokens] for chunk in read_chunks(stage.generator, sizes.chunks)]
    contenders: list[Contender] = [
        Scoring(OURS, stage.engine(), chunks),
        Scoring(OURS_BFLOAT16, stage.engine_of(BFLOAT16), chunks),
        Scoring(OURS_INT8, stage.engine_of(INT8), chunks),
    ]
    series = interleave(contenders, 1, stage.say)
    tokens = sum(map(len, chunks))
    return Measured(name=NAME, what=f"perplexity of {tokens:,} tokens of King James English", unit="ppl", series=series)
