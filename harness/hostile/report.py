"""An experiment's results: a table for people, figures for the last line, and a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.hostile.attacks.registry import ATTACKS
from harness.hostile.experiment import Outcome, Phase
from harness.hostile.neighbour import Times
from harness.percentile import percentile

MOST_TIMES = 2.0
"""The highest allowed ratio of the two honest tenants' p99 next to an attack to that next to an honest third."""
MOST_BLOCKED_MS = 50.0
MOST_MIB = 128.0
"""How much the API process may grow during an attack."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One phase compared with the baseline. `broken` names the broken promises."""

    name: str
    requests: int
    first_token_ms: tuple[float, float]
    first_token_ratio: float
    gap_ms: tuple[float, float]
    gap_ratio: float
    api_mib: float
    all_mib: float
    late_share: float
    blocked_ms: float
    broken: Sequence[str]
    outcomes: dict[str, dict[str, int]]

    @property
    def figures(self) -> dict[str, Any]:
        """Return the JSON object of the phase."""
        return {
            "requests": self.requests,
            "ttft_ms_p50_p99": [round(value, 1) for value in self.first_token_ms],
            "ttft_p99_ratio": round(self.first_token_ratio, 3),
            "itl_ms_p50_p99": [round(value, 1) for value in self.gap_ms],
            "itl_p99_ratio": round(self.gap_ratio, 3),
            "api_mib": round(self.api_mib, 1),
            "all_mib": round(self.all_mib, 1),
            "late_share": round(self.late_share, 4),
            "blocked_ms": round(self.blocked_ms, 1),
            "broken": list(self.broken),
            "answers": self.outcomes,
        }


def judge(outcome: Outcome) -> tuple[Verdict, list[Verdict]]:
    """Return the baseline, with all its phases combined, and each attack compared with it."""
    together = Times()
    for phase in outcome.baseline:
        together.extend(phase.times)
    # The very first phase grows the server's own memory; only what follows must stay flat.
    alone = _verdict(
        outcome.baseline[-1], together, together, faults=[f for phase in outcome.baseline for f in phase.faults]
    )
    return alone, [_verdict(phase, phase.times, together, faults=phase.faults) for phase in outcome.phases]


def _verdict(phase: Phase, times: Times, baseline: Times, *, faults: Sequence[str]) -> Verdict:
    first, first_ratio = _compare(times.first_tokens, baseline.first_tokens)
    gap, gap_ratio = _compare(times.gaps, baseline.gaps)
    usage = phase.usage
    broken = {
        "first token": first_ratio > MOST_TIMES,
        "between tokens": gap_ratio > MOST_TIMES,
        "errors": bool(faults),
        "loop": usage.blocked_ms > MOST_BLOCKED_MS,
        "memory": usage.api_mib > MOST_MIB,
        "no answers": not times.first_tokens,
        "no attempt": not _attempted(phase),
    }
    return Verdict(
        name=phase.name,
        requests=len(times.first_tokens),
        first_token_ms=first,
        first_token_ratio=first_ratio,
        gap_ms=gap,
        gap_ratio=gap_ratio,
        api_mib=usage.api_mib,
        all_mib=usage.all_mib,
        late_share=usage.late,
        blocked_ms=usage.blocked_ms,
        broken=[name for name, is_broken in broken.items() if is_broken],
        outcomes=phase.outcomes,
    )


def _attempted(phase: Phase) -> bool:
    """Return whether every attack got a response at least once: one that never did proves nothing."""
    return all(ATTACKS[name].waits or counts.keys() - {"unfinished"} for name, counts in phase.outcomes.items())


def _compare(seconds: Sequence[float], baseline: Sequence[float]) -> tuple[tuple[float, float], float]:
    """Return p50 and p99 in ms, and the ratio of the p99s; zeros if there is nothing to compare."""
    if not seconds or not baseline:
        return (0.0, 0.0), 0.0
    p99 = percentile(seconds, 99)
    return (1000 * percentile(seconds, 50), 1000 * p99), p99 / max(percentile(baseline, 99), 1e-9)


def line(phase: Phase) -> str:
    """Return a phase's result as one line, before there is anything to compare it with."""
    (_, first), _ = _compare(phase.times.first_tokens, phase.times.first_tokens)
    (_, gap), _ = _compare(phase.times.gaps, phase.times.gaps)
    answers = " ".join(f"{s}:{n}" for counts in phase.outcomes.values() for s, n in counts.items())
    usage = phase.usage
    return (
        f"{phase.name}: {len(phase.times.first_tokens)} requests, "
        f"p99 {first:.0f} ms to a first token, {gap:.0f} between; "
        f"API process {usage.api_mib:+.0f} MiB; {usage.late:.1%} of ticks late; "
        f"loop blocked {usage.blocked_ms:.0f} ms; "
        f"{len(phase.faults)} faults; answers {answers[:200]}"
    )


def print_table(alone: Verdict, phases: Sequence[Verdict], out: Console) -> None:
    """Print a row for each phase."""
    table = Table(title="Two normal tenants next to each attack; the first row is next to a third normal tenant")
    for name in ("attack", "requests", "first token p50/p99 ms", "ratio", "between p50/p99 ms", "ratio"):
        table.add_column(name, justify="left" if name == "attack" else "right")
    for name in ("API MiB", "all MiB", "late ticks", "loop blocked ms", "answers", "broken"):
        table.add_column(name, justify="right")
    for verdict in [alone, *phases]:
        answers = " ".join(f"{s}:{n}" for counts in verdict.outcomes.values() for s, n in counts.items())
        table.add_row(
            verdict.name,
            str(verdict.requests),
            "{:.0f}/{:.0f}".format(*verdict.first_token_ms),
            f"{verdict.first_token_ratio:.2f}",
            "{:.0f}/{:.0f}".format(*verdict.gap_ms),
            f"{verdict.gap_ratio:.2f}",
            f"{verdict.api_mib:+.0f}",
            f"{verdict.all_mib:+.0f}",
            f"{100 * verdict.late_share:.1f}%",
            f"{verdict.blocked_ms:.0f}",
            answers if len(verdict.outcomes) < 4 else f"{len(verdict.outcomes)} attacks",
            ", ".join(verdict.broken) or "-",
        )
    out.print(table)


def markdown(alone: Verdict, phases: Sequence[Verdict]) -> str:
    """Return the table of docs/benchmarks.md."""
    columns = (
        *("attack", "first token, p50 / p99 ms", "ratio", "between tokens, p50 / p99 ms", "ratio"),
        *("API process, MiB", "loop blocked, ms", "broken"),
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for verdict in [alone, *phases]:
        first, gap = ("{:.0f} / {:.0f}".format(*pair) for pair in (verdict.first_token_ms, verdict.gap_ms))
        lines.append(
            f"| {verdict.name} | {first} | {verdict.first_token_ratio:.2f} | {gap} | {verdict.gap_ratio:.2f} | "
            f"{verdict.api_mib:+.0f} | {verdict.blocked_ms:.0f} | {', '.join(verdict.broken) or '-'} |"
        )
    return "\n".join(lines) + "\n"


def plot(phases: Sequence[Verdict]) -> str:
    """Return an SVG: for each attack the two ratios as bars, and the line they must stay below."""
    row, left, scale = 26, 230, 120.0
    longest = 4.0
    lines = []
    for place, verdict in enumerate(phases):
        y = 30 + place * row
        lines.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{verdict.name[:34]}</text>')
        for offset, ratio, colour in ((2, verdict.first_token_ratio, "#3b6ea5"), (11, verdict.gap_ratio, "#8fb3d9")):
            width = scale * min(ratio, longest)
            lines.append(f'<rect x="{left}" y="{y + offset}" width="{width:.1f}" height="8" fill="{colour}"/>')
            lines.append(f'<text x="{left + width + 4:.1f}" y="{y + offset + 8}" font-size="8">{ratio:.2f}</text>')
    height = 40 + len(phases) * row
    limit = left + scale * MOST_TIMES
    lines.append(f'<line x1="{limit}" y1="24" x2="{limit}" y2="{height - 10}" stroke="#b03030" stroke-dasharray="4"/>')
    head = (
        "p99 of normal tenants next to each attack / next to a third normal tenant: first token (dark), between tokens"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + scale * longest + 60:.0f}" height="{height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="16">{head}</text>{"".join(lines)}</svg>\n'
    )
