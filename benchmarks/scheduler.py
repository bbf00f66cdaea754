"""The engine's own cost per step: schedule and commit of many decoding sequences, with a runner that computes nothing.

`python -m benchmarks.scheduler --sequences 256 --waiting 512 --tenants 8` prints the medians in microseconds as one
JSON line. Requests alternate between the base alone and 32 adapters; `waiting` requests queue behind a full running
set.
"""

import argparse
import hashlib
import json
import statistics

from harness.machine import describe_machine
from headmix_server.core.messages import Generate
from headmix_server.core.runner import Batch, RowResult, Sampled
from headmix_server.core.types import AdapterRef, SamplingParams
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.fake_runner import FakeAdapter, FakeRunner
from headmix_server.engine.loop import Engine

ADAPTERS = 32
WARM_STEPS, STEPS = 32, 200
PROMPT_TOKENS = 64


class InstantRunner(FakeRunner):
    """Returns the same token for every row, immediately."""

    def run(self, batch: Batch) -> list[RowResult]:
        """See `Runner.run`."""
        return [RowResult(row.sequence_id, Sampled(7)) for row in batch.rows]


def build(sequences: int, waiting: int) -> Engine:
    """Return an engine with room for this many sequences until they end, and for this many waiting requests."""
    limits = EngineConfig(
        max_model_len=1024,
        kv_blocks=sequences * 32,
        block_size=16,
        max_batch_tokens=sequences * PROMPT_TOKENS,
        max_running=sequences,
        max_waiting=sequences + waiting,
        adapter_slots=ADAPTERS,
        host_adapters=ADAPTERS,
        loader_threads=1,
        eos_ids=frozenset(),
    )
    return Engine(InstantRunner(open_adapter=lambda ref: FakeAdapter(ref.digest)), limits)


def reference(number: int) -> AdapterRef:
    """Return one of the adapters."""
    digest = "sha256:" + hashlib.sha256(bytes([number % ADAPTERS])).hexdigest()
    return AdapterRef(digest=digest, base="", path="", name=f"a{number % ADAPTERS}", version=1, tenant="t")


def measure(sequences: int, waiting: int, tenants: int) -> dict[str, float]:
    """Return the median costs of a step in microseconds while `sequences` decode and `waiting` wait."""
    engine = build(sequences, waiting)
    sampling = SamplingParams(max_tokens=WARM_STEPS + STEPS + 100, temperature=0)
    for number in range(sequences + waiting):
        ref = reference(number) if number % 2 else None
        tenant = f"t{number % tenants}"
        prompt = [number % 97, *range(PROMPT_TOKENS - 1)]
        engine.submit(Generate(request_id=str(number), tenant=tenant, prompt=prompt, adapter=ref, sampling=sampling))
    while len(engine.scheduler.running) < sequences:
        engine.step()
    for _ in range(WARM_STEPS):
        engine.step()
    engine.take_steps()
    for _ in range(STEPS):
        engine.step()
    steps = engine.take_steps()
    engine.close()
    schedule = statistics.median(step.schedule_seconds for step in steps) * 1e6
    commit = statistics.median(step.commit_seconds for step in steps) * 1e6
    both = statistics.median(step.schedule_seconds + step.commit_seconds for step in steps) * 1e6
    return {"schedule_us": round(schedule, 1), "commit_us": round(commit, 1), "both_us": round(both, 1)}


def main() -> None:
    """Measure with an empty queue and with a full one, and print the JSON line."""
    parser = argparse.ArgumentParser(description="Microseconds of schedule and commit a step, without a model.")
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--waiting", type=int, default=512)
    parser.add_argument("--tenants", type=int, default=8)
    arguments = parser.parse_args()
    figures = {
        "sequences": arguments.sequences,
        "tenants": arguments.tenants,
        "queue_empty": measure(arguments.sequences, 0, arguments.tenants),
        f"queue_{arguments.waiting}": measure(arguments.sequences, arguments.waiting, arguments.tenants),
    }
    print(json.dumps({"scheduler": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
