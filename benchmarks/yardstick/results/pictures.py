"""The figures as pictures: bars of contenders' medians, with a line from the lowest to the highest round, as SVG.

Each picture shows the contenders that ran; pictures with fewer than two are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.svg import LINES, OURS, QUIET, TEXT, THEIRS, empty_figure, styled, to_svg, without_frame
from benchmarks.yardstick.contenders.contender import Series
from benchmarks.yardstick.measurements import beside_llama, beside_vllm, fleet, sampling, single, throughput
from benchmarks.yardstick.results.report import Runs
from benchmarks.yardstick.results.spread import median_of, round_medians
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, FORMS, INT8

BAR_INCHES, FRAME_INCHES = 0.3, 1.15


@dataclass(frozen=True, slots=True)
class Bar:
    """A contender of a measurement and its label in the picture."""

    label: str
    measurement: str
    contender: str

    @property
    def ours(self) -> bool:
        """Whether it is headmix."""
        return self.label.startswith("headmix")


@dataclass(frozen=True, slots=True)
class Picture:
    """Bars under a title; `unit` is the unit of their lengths."""

    title: str
    unit: str
    bars: Sequence[Bar]


PICTURES: Mapping[str, Picture] = {
    "bench-throughput.svg": Picture(
        "32 greedy requests at once, no adapter",
        "output tokens per second; longer is better",
        [
            *(Bar(f"headmix, {form}", throughput.NAME, throughput.ours(0, form)) for form in (INT8, BFLOAT16, FLOAT32)),
            Bar("headmix over HTTP, float32", throughput.NAME, throughput.over_http(0)),
            *(
                Bar(f"vLLM, {dtype}", beside_vllm.NAME, beside_vllm.theirs(sampling.GREEDY, dtype))
                for dtype in (BFLOAT16, FLOAT32)
            ),
            *(
                Bar(f"llama.cpp server, {kind}", beside_llama.NAME, beside_llama.theirs(kind))
                for kind in beside_llama.FORMATS
            ),
            Bar("transformers, static batch", throughput.NAME, throughput.HF),
            Bar("transformers, continuous batching", throughput.NAME, throughput.CONTINUOUS),
        ],
    ),
    "bench-adapters.svg": Picture(
        "32 requests at once, 16 different adapters",
        "output tokens per second; longer is better",
        [
            *(
                Bar(f"headmix, {form}", throughput.NAME, throughput.ours(16, form))
                for form in (INT8, BFLOAT16, FLOAT32)
            ),
            Bar("headmix over HTTP, float32, LoRA", beside_llama.LORA, beside_llama.OURS_LORAS),
            Bar("PEFT mixed batch, float32, LoRA", throughput.NAME, throughput.peft(16)),
            *(
                Bar(f"llama.cpp server, {kind}, LoRA", beside_llama.LORA, beside_llama.theirs_lora(kind))
                for kind in beside_llama.LORA_FORMATS
            ),
            Bar("vLLM, bfloat16, LoRA", beside_vllm.LORA, beside_vllm.LORAS),
        ],
    ),
    "bench-sampling.svg": Picture(
        "32 requests at once: greedy, sampled, and sampled with penalties and 5 log-probabilities",
        "output tokens per second; longer is better",
        [
            *(
                Bar(f"headmix, {form}, {short}", sampling.NAME, sampling.ours(kind, form))
                for form in FORMS
                for kind, short in zip(sampling.KINDS, ("greedy", "sampled", "penalties"), strict=True)
            ),
            *(
                Bar(f"vLLM, {dtype}, {short}", beside_vllm.NAME, beside_vllm.theirs(kind, dtype))
                for dtype in (FLOAT32, BFLOAT16)
                for kind, short in zip(sampling.KINDS, ("greedy", "sampled", "penalties"), strict=True)
            ),
        ],
    ),
    "bench-one-request.svg": Picture(
        "One request alone",
        "milliseconds per token; shorter is better",
        [
            Bar("headmix, int8", single.NAME, single.OURS_INT8),
            Bar("headmix, bfloat16", single.NAME, single.OURS_BFLOAT16),
            Bar("headmix, the Q4_1 file", single.NAME, single.OURS),
            Bar("headmix, the Q4_1 file, an adapter", single.NAME, single.OURS_ADAPTED),
            *(
                Bar(f"llama.cpp server, {kind}", beside_llama.SINGLE, beside_llama.theirs(kind))
                for kind in beside_llama.FORMATS
            ),
            Bar("transformers, float32", single.NAME, single.HF),
        ],
    ),
    "bench-classifiers.svg": Picture(
        "Texts to classify on a 22M encoder",
        "texts per second; longer is better",
        [
            Bar("headmix, 16 classifiers", fleet.NAME, fleet.ours(16)),
            Bar("headmix, 10,000 classifiers", fleet.NAME, fleet.ours(10_000)),
            Bar("headmix over HTTP, 10,000 classifiers", fleet.NAME, fleet.over_http(10_000)),
        ],
    ),
}


def draw_pictures(runs: Runs) -> dict[str, str]:
    """Return the pictures as SVG, by file name."""
    drawn = {}
    for name, picture in PICTURES.items():
        found = [(bar, runs.series(bar.measurement, bar.contender)) for bar in picture.bars]
        ran = [(bar, series) for bar, series in found if series is not None]
        if len(ran) > 1:
            drawn[name] = _draw(picture, ran)
    return drawn


def shown_in(pictures: Mapping[str, str]) -> list[str]:
    """Return the Markdown that shows pictures on a page next to their folder."""
    return [f"![{PICTURES[name].title}](pictures/{name})" for name in pictures]


def _draw(picture: Picture, bars: Sequence[tuple[Bar, Series]]) -> str:
    with styled():
        figure = empty_figure(FRAME_INCHES + BAR_INCHES * len(bars))
        axes = figure.add_subplot()
        places = range(len(bars))
        medians = [median_of(series) for _, series in bars]
        colours = [OURS if bar.ours else THEIRS for bar, _ in bars]
        axes.barh(places, medians, height=0.68, color=colours)
        for place, (_, series) in zip(places, bars, strict=True):
            rounds = round_medians(series)
            axes.plot([min(rounds), max(rounds)], [place, place], color=TEXT, linewidth=1)
            end = max(median_of(series), *rounds)
            axes.annotate(
                _number(median_of(series)), (end, place), (4, 0), textcoords="offset points", va="center", color=TEXT
            )
        axes.set_yticks(places, [bar.label for bar, _ in bars], color=TEXT)
        axes.invert_yaxis()
        axes.set_xlabel(picture.unit, color=QUIET)
        axes.set_title(picture.title, loc="left", color=TEXT, fontweight="bold")
        without_frame(axes)
        axes.grid(visible=True, axis="x", color=LINES, linewidth=0.6)
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        return to_svg(figure, picture.title)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
