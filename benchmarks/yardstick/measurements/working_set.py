"""More adapters than slots: no cliff in the time to first token with twice as many in use as fit on the device."""

from benchmarks.yardstick.contenders.arrivals import measure_capacity
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.poisson import Arriving
from benchmarks.yardstick.stage import Stage

NAME = "working set"
RESIDENT, TWICE = "as many adapters as slots", "twice as many adapters as slots"


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run the same arrivals over as many adapters as there are slots, and over twice as many, in turn."""
    slots = stage.sizes.slots
    engine = stage.engine(adapter_slots=slots)
    rate = stage.sizes.half_load * measure_capacity(stage, engine, stage.shelf.preset(slots))
    contenders: list[Contender] = [
        Arriving(RESIDENT, stage, engine, stage.shelf.preset(slots), rate),
        Arriving(TWICE, stage, engine, stage.shelf.preset(2 * slots), rate),
    ]
    series = interleave(contenders, stage.sizes.few_rounds, stage.say)
    what = f"milliseconds to the first token with {slots} slots; Poisson arrivals, {rate:.2g} requests a second"
    return Measured(name=NAME, what=what, unit="ms", series=series)
