"""headmix in one process, without a server: four adapters and the base in one batch.

python examples/in_process.py
"""

from pathlib import Path

from headmix_server import LLM, SamplingParams

HERE = Path(__file__).parent / "adapters"
ADAPTERS = {path.stem: path for path in HERE.glob("*.safetensors")}
GREEDY = SamplingParams(max_tokens=48, temperature=0)


def main() -> None:
    """Query the base and two adapters, and classify two texts, all in one batch."""
    with LLM("smollm2-135m-instruct", adapters=ADAPTERS) as llm:
        questions = {
            None: "What is the capital of France?",
            "kingjames": "Say it in King James English: You have read my letter.",
            "dictionary": 'Define "sparrow".',
        }
        batch = llm.batch()
        answers = batch.chat(
            [[{"role": "user", "content": question}] for question in questions.values()],
            adapter=list(questions),
            sampling=GREEDY,
        )
        messages = ["Free entry! Win a holiday, text WIN to 80082 now.", "See you at lunch?"]
        labels = batch.classify(messages, adapter="spam")
        batch.run()
        for adapter, answer in zip(questions, answers.results(), strict=True):
            print(f"{adapter or llm.base}: {answer.text.strip()}")
        for message, found in zip(messages, labels.results(), strict=True):
            print(f"spam: {message!r} is {found.label} ({found.scores[found.label]:.2f})")


if __name__ == "__main__":
    main()
