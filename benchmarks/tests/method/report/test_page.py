"""The page says what is measured and what is not, and is the one that the committed results give."""

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from benchmarks.method import __main__ as command
from benchmarks.method.methods import BUDGETS, KERNEL_MIX, LITE, LORA, METHODS
from benchmarks.method.plan import num_cells
from benchmarks.method.report.comparison import compare_all, num_compared
from benchmarks.method.report.page import BEGIN, END, render
from benchmarks.method.report.pictures import RATES, SCORES, draw_pictures
from benchmarks.method.results import Cell, append_result, read_results
from benchmarks.method.tasks import TASKS
from benchmarks.tests.method.made_up import REQUIRED, made_up

DOCS = Path(__file__).parents[4] / "docs"
TUNING, FINAL = num_cells(TASKS["category"])


def kernel_mix_is_better(cell: Cell) -> int:
    return 38 if cell.method == KERNEL_MIX else 20


def test_an_unfinished_plan_says_what_is_missing_and_gives_no_number_for_it() -> None:
    page = render(made_up(1 + TUNING + 6, lambda _: 20))
    assert "**The plan is not complete**" in page
    assert f"* category, small: {TUNING} of {TUNING} tuning and 6 of {FINAL} final runs" in page
    assert "Seeds run so far: 1 of 5." in " ".join(page.split())  # the second seed lacks two methods
    assert "## Differences" not in page
    assert "## spam" not in page


def test_nothing_is_said_about_a_task_before_every_method_has_its_rate() -> None:
    results = made_up(TUNING, kernel_mix_is_better)
    assert compare_all(results) == []
    assert draw_pictures([]) == {}
    assert "##" not in render(results).split("## Where the numbers are from")[0]


def test_no_run_at_all_is_a_page_too() -> None:
    assert render([]).startswith("**The plan is not complete**: 0 of ")


def test_a_finished_plan_says_so_and_shows_each_difference_with_its_verdict() -> None:
    results = made_up(None, kernel_mix_is_better)
    page = render(results)
    assert page.startswith(f"The plan is complete: {len(results) - len(REQUIRED)} runs.")
    assert page.count("| better than LoRA |") == 2 * len(REQUIRED)
    assert page.count("| no difference shown |") == 4 * len(REQUIRED)
    assert "| category, small | Kernel-mix | +0.450 |" in page
    assert "| kingjames, large | Kernel-mix | -0.450 |" in page  # a lower loss is the better one
    assert "not complete" not in page
    shown = "; ".join(f"better than LoRA on {task.name}, {budget}" for budget in BUDGETS for task in REQUIRED)
    assert f"* **Kernel-mix**: {shown}; no difference shown in 0 of 8 comparisons." in " ".join(page.split())
    assert "* **BD-LoRA**: no difference shown in 8 of 8 comparisons." in page


def test_a_worse_method_is_called_worse() -> None:
    assert "| worse than LoRA |" in render(made_up(None, lambda cell: 38 if cell.method == LORA else 20))


def test_p_values_are_corrected_for_the_whole_plan_however_little_of_it_is_run() -> None:
    results = made_up(1 + TUNING + FINAL, kernel_mix_is_better)
    [first, *_] = compare_all(results)
    against = first.against[KERNEL_MIX]
    assert num_compared(results) == 3 * 2 * 4
    assert against.corrected == pytest.approx(24 * against.difference.p)
    assert (against.better, against.seeds) == (5, 5)


def test_an_optional_comparison_belongs_to_the_plan_once_it_has_begun() -> None:
    gemma = TASKS["kingjames-gemma"]
    results = made_up(None, kernel_mix_is_better) + made_up(2, kernel_mix_is_better, [gemma], ["small"])
    page = " ".join(render(results).split())
    assert "* kingjames-gemma, small: 1 of " in page
    assert "allows for all 27 comparisons" in page
    assert "kingjames-gemma, large" not in page


def test_a_run_at_a_rate_that_is_no_longer_chosen_counts_for_nothing() -> None:
    results = made_up(1 + TUNING + FINAL, kernel_mix_is_better)
    last = results[-1]
    results[-1] = msgspec.structs.replace(last, cell=msgspec.structs.replace(last.cell, rate=7.0))
    assert f"* category, small: {TUNING} of {TUNING} tuning and {FINAL - 1} of {FINAL} final runs" in render(results)


def test_only_seeds_that_all_methods_have_run_are_compared() -> None:
    [one] = compare_all(made_up(1 + TUNING + 2 * len(METHODS) + 3, kernel_mix_is_better))
    assert {method: len(runs) for method, runs in one.runs.items()} == dict.fromkeys(METHODS, 2)


def test_rates_at_the_edge_are_pointed_out() -> None:
    edges = {method: 0.016 if method == LORA else 0.001 for method in METHODS}
    page = render(made_up(None, lambda cell: 30 if cell.rate == edges.get(cell.method or "") else 20))
    assert "a better one may lie beyond: Kernel-mix, Kernel-mix lite, LoRA, BD-LoRA." in " ".join(page.split())
    assert "| LoRA | 0.500 | 0.500 | 0.500 | 0.500 | **0.750** |" in page


def test_pictures_are_svg_and_equal_results_give_equal_bytes() -> None:
    comparisons = compare_all(made_up(None, kernel_mix_is_better))
    drawn = draw_pictures(comparisons)
    assert drawn.keys() == {SCORES, RATES}
    assert drawn == draw_pictures(comparisons)
    for picture in drawn.values():
        text = "".join(ElementTree.fromstring(picture).itertext())
        assert all(method in text for method in METHODS)
    assert drawn[RATES].count(LITE) == 1  # one legend, which no line crosses


def test_report_writes_page_and_pictures_from_any_results_file(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "method.md").write_text(f"# Title\n\n{BEGIN}\n\nold\n\n{END}\n")
    results = tmp_path / "runs.jsonl"
    for result in made_up(1 + TUNING + FINAL, kernel_mix_is_better):
        append_result(results, result)
    command.write_page(results, tmp_path)
    page = (tmp_path / "method.md").read_text()
    assert page.startswith("# Title\n\n")
    assert "old" not in page
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {SCORES, RATES}


@pytest.mark.drift
def test_the_published_page_and_pictures_are_those_the_results_give() -> None:
    results = read_results(DOCS / "method.jsonl")
    pictures = draw_pictures(compare_all(results))
    page = (DOCS / "method.md").read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0].strip() == render(results, list(pictures))
    assert {path.name for path in (DOCS / "pictures").glob("method-*.svg")} == pictures.keys()
    for name, picture in pictures.items():
        assert (DOCS / "pictures" / name).read_text(encoding="utf-8") == picture
