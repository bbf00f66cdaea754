"""What a finished training is said to be: its scores, and what to keep in mind about them."""

from pathlib import Path

import pytest

from headmix_adapters.train.history.events import Done, Started
from headmix_server.files.files import Files
from headmix_server.training.job.results import store_results


def started(held_out: int) -> Started:
    return Started(
        name="t",
        task="classification",
        steps=9,
        epochs=3,
        train_examples=176,
        valid_examples=held_out,
        score_name="accuracy",
        greater_is_better=True,
        base={"accuracy": 0.25},
        linear_classifier={"accuracy": 0.75},
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "intents.safetensors"
    path.write_bytes(b"artifact")
    path.with_name("intents.heads.svg").write_text("<svg/>")
    return path


@pytest.mark.parametrize(
    ("held_out", "below", "expected"),
    [
        (100, False, ()),
        (25, False, ("With 25 held-out texts, accuracies less than 0.20 apart may be chance.",)),
        (100, True, ("The adapter scores below its base on the held-out data.",)),
    ],
)
def test_scores_on_few_texts_or_below_the_base_come_with_a_warning(
    files: Files, artifact: Path, held_out: int, below: bool, expected: tuple[str, ...]
) -> None:
    done = Done(artifact=str(artifact), digest="", steps=9, scores={"accuracy": 0.8}, below_base=below)
    with files.staging() as staging:
        trained = store_results(artifact, staging.put, done, started(held_out), tokens=5)
    assert (trained.warnings, trained.below_base) == (expected, below)
    assert [file.filename for file in trained.files] == ["heads.svg"]
    assert {name: scores["accuracy"] for name, scores in trained.scores.items()} == {
        "adapter": 0.8,
        "base": 0.25,
        "linear classifier": 0.75,
    }
