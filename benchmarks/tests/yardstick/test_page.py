"""The page reports the results of its runs."""

import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.yardstick.contenders.contender import Measured, Series
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements import beside_llama, single, throughput
from benchmarks.yardstick.results.goals import GOALS, reach
from benchmarks.yardstick.results.page import BEGIN, END, put_figures, render_figures
from benchmarks.yardstick.results.pictures import draw_pictures, shown_in
from benchmarks.yardstick.results.report import Report, Runs, read_reports, write_reports

DOCS = Path(__file__).parents[3] / "docs"


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
    return run_of(measured)


def run_of(*measured: Measured, command: str = "make bench") -> Report:
    machine: dict[str, str | int] = {"date": "2026-01-01", "cpu": "a CPU", "cores": 2, "torch_threads": 2, "torch": "2"}
    ceilings = Ceilings(bandwidth=30e9, float32=300e9, int8=900e9)
    return Report(command=command, seconds=600, machine=machine, ceilings=ceilings, measured=list(measured))


def test_goals_are_ratios_of_medians_and_none_where_nothing_was_measured() -> None:
    values = reach(Runs([report(ours0=[200, 240, 220], ours16=[110, 100, 132], hf=[88, 110, 440])]))
    assert (values["ours16_over_ours0"], values["ours0_over_hf"]) == (0.5, 2.0)
    assert values["ours16_over_peft16"] is None
    assert values["ours0_over_vllm"] is None
    assert set(values) == {goal.key for goal in GOALS}


def test_milliseconds_are_compared_the_other_way_round() -> None:
    series = [Series(name=name, rounds=[[ms]]) for name, ms in ((single.HF, 30.0), (single.OURS, 10.0))]
    measured = Measured(name=single.NAME, what="", unit="ms", series=series)
    assert reach(Runs([run_of(measured)]))["bs1_over_hf"] == 3


def test_the_share_of_a_floor_is_what_is_reached_of_it_in_rates_and_in_milliseconds() -> None:
    alone = Series(name=single.OURS_INT8, rounds=[[8.0]])
    many = Series(name=throughput.ours(0, "int8"), rounds=[[300.0]])
    values = reach(
        Runs(
            [
                run_of(
                    Measured(name=single.NAME, what="", unit="ms", series=[alone], floors={alone.name: 6.0}),
                    Measured(name=throughput.NAME, what="", unit="tok/s", series=[many], floors={many.name: 400.0}),
                )
            ]
        )
    )
    assert (values["int8_share_of_floor_bs1"], values["int8_share_of_floor"]) == (0.75, 0.75)


def test_loras_are_compared_with_the_faster_of_llama_cpps_formats() -> None:
    rates = {beside_llama.OURS_LORAS: 300.0, beside_llama.theirs_lora("Q4_1"): 30.0}
    series = [Series(name=name, rounds=[[rate]]) for name, rate in rates.items()]
    series.append(Series(name=beside_llama.theirs_lora("BF16"), rounds=[[60.0]]))
    run = run_of(Measured(name=beside_llama.LORA, what="", unit="tok/s", series=series))
    assert reach(Runs([run]))["lora16_over_llama"] == 5


def test_the_page_shows_medians_spread_floors_misses_and_failures() -> None:
    page = render_figures([report(ours0=[200, 240, 220], ours16=[110, 100, 132], hf="ValueError: no | CPU\nhere")])
    assert "| throughput, tok/s | headmix, 0 adapters | 220 | 200 to 240 |  |  | 55% of 400 |" in page
    assert "| `ours16_over_ours0` | at least 0.95 | 0.50 (missed) |" in page
    assert "| cannot run: ValueError: no / CPU here |" in page
    assert "On 2 cores of a CPU (2 computing threads); torch 2:" in page
    assert "2026-01-01, 10 minutes, `make bench` for throughput;" in page


def test_the_newest_run_of_each_measurement_is_shown_and_the_goals_take_it_from_there() -> None:
    old = report(ours0=[100.0], ours16=[100.0])
    alone = [Series(name=name, rounds=[[ms]]) for name, ms in ((single.HF, 30.0), (single.OURS, 10.0))]
    part = run_of(Measured(name=single.NAME, what="", unit="ms", series=alone), command="make bench ONLY=...")
    newer = report(ours0=[200.0], ours16=[100.0])
    values = reach(Runs([old, part, newer]))
    assert (values["bs1_over_hf"], values["ours16_over_ours0"]) == (3, 0.5)
    page = render_figures([old, part, newer])
    assert page.count("| throughput, tok/s | headmix, 0 adapters |") == 1
    assert "`make bench ONLY=...` for batch 1;" in " ".join(page.split())


def test_a_picture_has_every_contender_that_ran_with_its_median_and_none_that_did_not() -> None:
    run = report(ours0=[200, 240, 220], hf="ValueError: no")
    assert draw_pictures(Runs([run])) == {}
    run = report(ours0=[200, 240, 220], hf=[88.0])
    drawn = draw_pictures(Runs([run]))
    assert list(drawn) == ["bench-throughput.svg"]
    texts = texts_of(drawn["bench-throughput.svg"])
    assert {"headmix, float32", "220", "transformers, static batch", "88"} <= set(texts)
    assert not any("PEFT" in text for text in texts)
    assert draw_pictures(Runs([run])) == drawn
    assert shown_in(drawn) == ["![32 greedy requests at once, no adapter](pictures/bench-throughput.svg)"]


def texts_of(picture: str) -> list[str]:
    tree = ElementTree.fromstring(picture)
    return [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_runs_are_kept_whole(tmp_path: Path) -> None:
    results = tmp_path / "runs.jsonl"
    assert read_reports(results) == []
    runs = [report(ours0=[1.0]), report(ours0=[2.0])]
    write_reports(results, runs)
    assert read_reports(results) == runs
    write_reports(results, read_reports(results))
    assert read_reports(results) == runs


def test_figures_replace_what_stood_between_the_marks_and_nothing_else() -> None:
    page = put_figures(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new")
    assert page == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert put_figures(page, "new") == page
    with pytest.raises(ValueError, match="no place"):
        put_figures("no marks", "new")


@pytest.mark.drift
def test_the_published_figures_are_those_of_the_published_runs() -> None:
    reports = read_reports(DOCS / "benchmarks.jsonl")
    page = (DOCS / "benchmarks.md").read_text()
    drawn = draw_pictures(Runs(reports))
    assert put_figures(page, render_figures(reports, shown_in(drawn))) == page
    for name, picture in drawn.items():
        assert texts_of((DOCS / "pictures" / name).read_text(encoding="utf-8")) == texts_of(picture)
    for run in reports:
        datetime.date.fromisoformat(str(run.machine["date"]))
