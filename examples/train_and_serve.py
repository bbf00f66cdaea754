"""From a file of labelled texts to a working classifier: train for a few steps, then serve it in this process.

python examples/train_and_serve.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from headmix_server import LLM

DATA = Path(__file__).parent / "data" / "spam.train.jsonl"
TEXTS = ["Free entry! Win a holiday, text WIN to 80082 now.", "See you at lunch?"]


def main(steps: int = 40) -> None:
    """Train on the embedded encoder (this takes seconds) and classify two texts."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "spam.safetensors"
        command = [sys.executable, "-m", "headmix_adapters.train", "--data", str(DATA), "--base", "minilm-l6"]
        command += ["--name", "spam", "--max-steps", str(steps), "--output", str(artifact)]
        subprocess.run(command, check=True)
        with LLM("minilm-l6", adapters={"spam": artifact}) as llm:
            for text, found in zip(TEXTS, llm.classify(TEXTS, adapter="spam"), strict=True):
                print(f"{text!r} is {found.label} ({found.scores[found.label]:.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
