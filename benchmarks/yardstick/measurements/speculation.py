"""Speculative decoding compared with none: a text that is copied, a chat, and 32 chats at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.perplexity import read_chunks
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import Stage
from headmix_adapters.text.chat_template import load_chat_template
from headmix_server.core.messages import Generate
from headmix_server.core.types import SamplingParams
from headmix_server.engine.loop import Engine
from headmix_server.text.tokenizer import load_tokenizer

NAME = "speculation"
COPY, CHAT, MANY = "copying a text, alone", "a chat, alone", "32 chats"
GUESSED, FIRST_WORDS = 8, 12
QUESTIONS = (
    "What is the capital of France?",
    "Write a short story about a sailor and a storm.",
    "Explain why the sky is blue to a child.",
    "Give me five tips for learning the piano.",
    "How do I make bread at home?",
    "What is the difference between a virus and a bacterium?",
    "Write a poem about autumn.",
    "Explain what a database index is.",
)


def ours(task: str, *, guessing: bool) -> str:
    """Return headmix's name for a task."""
    return f"headmix, {task}, {'guessing ahead' if guessing else 'without'}"


@dataclass(frozen=True, slots=True)
class Task:
    """An engine and the prompts of each round, the same for both engines; `temperature` 0 is greedy."""

    name: str
    engine: Engine
    prompts: Callable[[int], list[list[int]]]
    max_tokens: int
    temperature: float
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return output tokens per second."""
        requests = [
            Generate(
                request_id=f"{self.name}, {number}, {index}",
                tenant="default",
                prompt=prompt,
                adapter=None,
                sampling=SamplingParams(
                    max_tokens=self.max_tokens, temperature=self.temperature, seed=index, ignore_eos=True
                ),
            )
            for index, prompt in enumerate(self.prompts(number))
        ]
        return [len(requests) * self.max_tokens / run_all(self.engine, requests)]


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run every task on an engine with speculation and on one without, in turn."""
    sizes = stage.sizes
    engines: Mapping[bool, Engine] = {
        guessing: stage.engine(speculative_tokens=GUESSED * guessing) for guessing in (True, False)
    }
    tasks: Mapping[str, tuple[Callable[[int], list[list[int]]], int, float]] = {
        COPY: (_copied(stage), 3 * sizes.output, 0.0),
        CHAT: (_asked(stage, 1), 3 * sizes.output, 0.8),
        MANY: (_asked(stage, sizes.requests), sizes.output, 0.8),
    }
    contenders: list[Contender] = [
        Task(ours(name, guessing=guessing), engine, prompts, max_tokens, temperature)
        for name, (prompts, max_tokens, temperature) in tasks.items()
        for guessing, engine in engines.items()
    ]
    series = interleave(contenders, sizes.rounds, stage.say)
    what = f"output tokens a second with {GUESSED} tokens guessed ahead and without"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)


def _copied(stage: Stage) -> Callable[[int], list[list[int]]]:
    """Return prompts made of a text and its first words again, which the base continues to copy."""
    length = 3 * stage.sizes.output + FIRST_WORDS
    texts = [chunk[:length] for chunk in read_chunks(stage.generator, stage.sizes.rounds + 1)]
    return lambda number: [[*texts[number], *texts[number][:FIRST_WORDS]]]


def _asked(stage: Stage, count: int) -> Callable[[int], list[list[int]]]:
    tokenizer = load_tokenizer(stage.generator.folder)
    template = load_chat_template(stage.generator.folder, tokenizer.special_tokens)

    def prompts(number: int) -> list[list[int]]:
        questions = [QUESTIONS[(number + place) % len(QUESTIONS)] for place in range(count)]
        texts = [
            question if template is None else template.render([{"role": "user", "content": question}])
            for question in questions
        ]
        return [tokenizer.encode(text, add_special_tokens=template is None) for text in texts]

    return prompts
