"""What the engine reports to the API process about itself, for the metrics."""

from headmix_server.core.messages import EngineReport
from headmix_server.engine.config import UNBOUNDED
from headmix_server.engine.loop import Engine


def make_report(engine: Engine) -> EngineReport:
    """Return the engine's current state and what has happened since the last report."""
    scheduler, tiers = engine.scheduler, engine.tiers
    counts, slots = tiers.take_counts(), tiers.slots.counts()
    prefixes, drafts = scheduler.take_prefix_counts(), scheduler.speculation.take_counts()
    in_slots = tiers.slots.digests()
    asked = dict.fromkeys([ref.digest for _, ref in scheduler.waiting.asked()])  # in queue order
    waiting = asked | dict.fromkeys(sorted(engine.loads_open | tiers.loading))
    return EngineReport(
        running=len(scheduler.running),
        waiting=len(scheduler.waiting),
        kv_usage=scheduler.kv_cache.usage,
        slots_free=slots.free,
        slots_leased=slots.leased,
        slots_idle=slots.idle,
        slots_loading=tiers.num_loading,
        slots_pinned=tiers.slots.num_pinned,
        device_adapter_bytes=engine.runner.adapter_bytes,
        host_adapter_bytes=tiers.host_bytes,
        device_adapter_budget=_told(tiers.slots.budget),
        host_adapter_budget=_told(tiers.host_budget),
        numerical_errors=engine.take_numerical_errors(),
        steps=engine.take_steps(),
        loads=counts.loads,
        hits=dict(counts.hits),
        misses=dict(counts.misses),
        evictions=dict(counts.evictions),
        prefix_queries=prefixes.queries,
        prefix_hits=prefixes.hits,
        drafted_tokens=drafts.drafted,
        accepted_tokens=drafts.accepted,
        resident=tiers.take_residents(),
        running_adapters=in_slots,
        waiting_adapters=[digest for digest in waiting if digest not in in_slots],
    )


def _told(budget: int) -> int:
    """Return a budget as it is reported: 0 if there is none."""
    return budget if budget < UNBOUNDED else 0
