"""The page says what its runs say."""

import datetime
from pathlib import Path

import pytest

from benchmarks.yardstick.contenders.contender import Measured, Series
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements import single, throughput
from benchmarks.yardstick.results.goals import GOALS, reach
from benchmarks.yardstick.results.page import BEGIN, END, put_figures, render_figures
from benchmarks.yardstick.results.report import Report, append_report, latest, read_reports


def report(**rates: list[float] | str) -> Report:
    names = {"ours0": throughput.ours(0), "ours16": throughput.ours(16), "hf": throughput.HF}
    series = [
        Series(name=names[key], rounds=[], failure=given)
        if isinstance(given, str)
        else Series(name=names[key], rounds=[[rate] for rate in given])
        for key, given in rates.items()
    ]
    measured = Measured(
        name=throughput.NAME, what="tokens", unit="tok/s", series=series, floors={throughput.ours(0): 400.0}
    )
    machine: dict[str, str | int] = {"date": "2026-01-01", "cpu": "a CPU", "cores": 2, "torch_threads": 2, "torch": "2"}
    ceilings = Ceilings(bandwidth=30e9, float32=300e9, int8=900e9)
    return Report(
        kind="bench", command="make bench", seconds=600, machine=machine, ceilings=ceilings, measured=[measured]
    )


def test_goals_are_ratios_of_medians_and_none_where_nothing_was_measured() -> None:
    values = reach(report(ours0=[200, 240, 220], ours16=[110, 100, 132], hf=[88, 110, 440]), None)
    assert (values["ours16_over_ours0"], values["ours0_over_hf"]) == (0.5, 2.0)
    assert values["ours16_over_peft16"] is None
    assert values["ours0_over_vllm"] is None
    assert set(values) == {goal.key for goal in GOALS}


def test_milliseconds_are_compared_the_other_way_round() -> None:
    series = [Series(name=name, rounds=[[ms]]) for name, ms in ((single.HF, 30.0), (single.OURS, 10.0))]
    run = report(ours0=[1.0])
    run.measured.append(Measured(name=single.NAME, what="", unit="ms", series=series))
    assert reach(run, None)["bs1_over_hf"] == 3


def test_the_page_shows_medians_spread_floors_misses_and_failures() -> None:
    page = render_figures([report(ours0=[200, 240, 220], ours16=[110, 100, 132], hf="ValueError: no | CPU\nhere")])
    assert "| throughput, tok/s | headmix, 0 adapters | 220 | 200 to 240 |  | 55% of 400 |" in page
    assert "| `ours16_over_ours0` | at least 0.85 | 0.50 (missed) |" in page
    assert "| cannot run: ValueError: no / CPU here |" in page
    assert "`make bench`, 2026-01-01, 10 minutes, on 2 cores of a CPU" in page


def test_a_run_is_kept_whole_and_the_last_of_its_kind_is_shown(tmp_path: Path) -> None:
    results = tmp_path / "runs.jsonl"
    assert read_reports(results) == []
    first, second = report(ours0=[1.0]), report(ours0=[2.0])
    append_report(results, first)
    append_report(results, second)
    assert read_reports(results) == [first, second]
    assert latest(read_reports(results), "bench") == second
    assert latest(read_reports(results), "vllm") is None


def test_figures_replace_what_stood_between_the_marks_and_nothing_else() -> None:
    page = put_figures(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new")
    assert page == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert put_figures(page, "new") == page
    with pytest.raises(ValueError, match="no place"):
        put_figures("no marks", "new")


@pytest.mark.drift
def test_the_published_figures_are_those_of_the_published_runs() -> None:
    docs = Path(__file__).parents[3] / "docs"
    reports = read_reports(docs / "benchmarks.jsonl")
    page = (docs / "benchmarks.md").read_text()
    assert put_figures(page, render_figures(reports)) == page
    for run in reports:
        datetime.date.fromisoformat(str(run.machine["date"]))
