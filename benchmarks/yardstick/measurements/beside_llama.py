"""Workload W on llama.cpp's server and on headmix, in turn: many requests, one request, and LoRAs.

llama.cpp is built by `make bench-llama` and reads the embedded base's own GGUF file, and that file in other formats. It
computes on every core. It batches only requests with the same LoRAs.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.late_start import LateStart
from benchmarks.yardstick.contenders.llama_files import Format, base_file, lora_files
from benchmarks.yardstick.contenders.llama_server import LlamaServer, llama_server
from benchmarks.yardstick.contenders.over_http import requester, serve
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.long_prompts import LongPrompts, described
from benchmarks.yardstick.measurements.sampling import GREEDY, KINDS, SAMPLED
from benchmarks.yardstick.measurements.single import Single, ours
from benchmarks.yardstick.measurements.throughput import Generator
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, FORMS, NAMES, Stage

NAME, SINGLE, LORA, LONG = "llama.cpp", "llama.cpp batch 1", "llama.cpp LoRA", "llama.cpp long prompts"
FORMATS: Sequence[Format] = ("Q4_1", "F32", "BF16", "Q8_0")
LORA_FORMATS: Sequence[Format] = ("Q4_1", "BF16")
OURS_LORAS = "headmix, 16 LoRAs"


def theirs(kind: Format) -> str:
    """Return llama.cpp's name with a format."""
    return f"llama.cpp {kind}"


def named(name: str, kind: str) -> str:
    """Return a contender's name with requests of a kind."""
    return name if kind == GREEDY else f"{name}, {kind}"


def theirs_lora(kind: Format) -> str:
    """Return llama.cpp's name with LoRAs over a format."""
    return f"llama.cpp {kind}, 16 LoRAs"


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run workload W over HTTP in every format, the same streams for both, in turn."""
    sizes = stage.sizes
    contenders: list[Contender] = []
    with ExitStack() as stack:
        for form in FORMS:
            server = stack.enter_context(serve(stage.folder / form, stage.generator_name, None, stage.served(form)))
            for kind in (GREEDY, SAMPLED) if form == BFLOAT16 else (GREEDY,):
                ask = requester(server, [stage.generator.name], sizes.output, **KINDS[kind])
                contenders.append(Generator(named(NAMES[form], kind), False, stage, ask))
        for kind in FORMATS:
            llama = _late(stage, stack, kind, sizes.requests)
            contenders.append(_rival(stage, theirs(kind), llama))
            if kind == "BF16":
                contenders.append(_rival(stage, named(theirs(kind), SAMPLED), llama, KINDS[SAMPLED]))
        series = interleave(contenders, sizes.few_rounds, stage.say)
    what = (
        "output tokens a second of workload W, beside llama.cpp's server with a slot for each request, both over HTTP"
    )
    return Measured(name=NAME, what=what, unit="tok/s", series=series)


def measure_single(stage: Stage, _: Ceilings) -> Measured:
    """Run one request alone in every format, in turn."""
    contenders: list[Contender] = [ours(stage, NAMES[form], stage.engine_of(form)) for form in FORMS]
    with ExitStack() as stack:
        contenders.extend(_timed(stage, theirs(kind), _late(stage, stack, kind, 1)) for kind in FORMATS)
        series = interleave(contenders, stage.sizes.rounds, stage.say)
    what = "milliseconds from one token to the next, one request alone; headmix in process, llama.cpp by its own clock"
    return Measured(name=SINGLE, what=what, unit="ms", series=series)


def measure_long(stage: Stage, _: Ceilings) -> Measured:
    """Run long prompts over HTTP in every format, the same streams for both, in turn."""
    sizes = stage.sizes
    contenders: list[Contender] = []
    with ExitStack() as stack:
        for form in FORMS:
            folder = stage.folder / f"long-{form}"
            server = stack.enter_context(serve(folder, stage.generator_name, None, stage.served(form)))
            ask = requester(server, [stage.generator.name], sizes.output)
            contenders.append(LongPrompts(NAMES[form], False, stage, ask))
        for kind in FORMATS:
            llama = _late(stage, stack, kind, sizes.long_requests, prompt=sizes.long_prompt)
            contenders.append(_reading(stage, theirs(kind), llama))
        series = interleave(contenders, sizes.few_rounds, stage.say)
    what = f"{described(stage)}, beside llama.cpp's server, both over HTTP"
    return Measured(name=LONG, what=what, unit="requests/s", series=series)


def measure_lora(stage: Stage, _: Ceilings) -> Measured:
    """Run workload W over HTTP with LoRAs of rank 16, the same files for both, in turn."""
    sizes, folder = stage.sizes, stage.folder / "loras"
    refs = stage.shelf.loras(sizes.many)
    names = stage.shelf.copy(refs, folder / "adapters")
    with ExitStack() as stack:
        server = stack.enter_context(serve(folder, stage.generator_name, folder / "adapters", stage.served(FLOAT32)))
        contenders: list[Contender] = [Generator(OURS_LORAS, False, stage, requester(server, names, sizes.output))]

        def files() -> list[Path]:
            exported = [stage.shelf.as_lora(ref) for ref in refs]
            return lora_files(exported, stage.generator.folder, folder / "gguf")

        for kind in LORA_FORMATS:
            llama = _late(stage, stack, kind, sizes.requests, loras=files)
            contenders.append(_rival(stage, theirs_lora(kind), llama, loras=sizes.many))
        series = interleave(contenders, sizes.few_rounds, stage.say)
    what = f"output tokens a second of workload W, {sizes.many} LoRAs of rank 16, beside llama.cpp's server, over HTTP"
    return Measured(name=LORA, what=what, unit="tok/s", series=series)


def _late(
    stage: Stage,
    stack: ExitStack,
    kind: Format,
    slots: int,
    *,
    prompt: int | None = None,
    loras: Callable[[], Sequence[Path]] = list,
) -> LateStart[LlamaServer]:
    tokens = (stage.sizes.prompt if prompt is None else prompt) + stage.sizes.output
    return LateStart(
        stack,
        lambda: llama_server(
            base_file(stage.generator.gguf, kind, stage.folder),
            stage.folder / f"llama-{kind}-{slots}.log",
            slots=slots,
            slot_tokens=2 * tokens,
            loras=loras(),
        ),
    )


def _rival(
    stage: Stage, name: str, llama: LateStart[LlamaServer], fields: Mapping[str, float] | None = None, loras: int = 0
) -> Contender:
    sizes = stage.sizes
    numbers = [index % loras for index in range(sizes.requests)] if loras else None

    def generate(prompts: list[list[int]]) -> float:
        return llama.get().generate(prompts, sizes.output, numbers, **(fields or {}))

    return Generator(name, True, stage, generate)


def _reading(stage: Stage, name: str, llama: LateStart[LlamaServer]) -> Contender:
    return LongPrompts(name, True, stage, lambda prompts: llama.get().generate(prompts, stage.sizes.output))


def _timed(stage: Stage, name: str, llama: LateStart[LlamaServer]) -> Contender:
    def milliseconds(prompt: list[int]) -> list[float]:
        return [llama.get().milliseconds_per_token(prompt, stage.sizes.output)]

    return Single(name, True, stage, milliseconds)
