"""Advice on epochs reflects the run: overfitted since when, still falling, levelled off, or too few steps to say."""

import pytest

from headmix_adapters.train.recipe.recipe import TrainingTable
from headmix_adapters.train.terminal.advice import advise


def table(epochs: int, patience: int | None = None, every: int | None = None) -> TrainingTable:
    return TrainingTable(
        epochs=epochs,
        batch_size=8,
        learning_rate=1e-3,
        seed=1,
        early_stopping_patience=patience,
        score_every=every,
    )


def advice(
    losses: list[float],
    *,
    steps: int = 500,
    planned: int = 500,
    epochs: int | None = None,
    patience: int | None = None,
    every: int | None = None,
) -> tuple[str, ...]:
    curve = [{"answer_nll": loss, "answer_perplexity": 2.0} for loss in losses]
    recipe = table(epochs or len(losses), patience, every)
    return advise(curve, recipe, steps=steps, planned=planned, held_out=200)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (
            [0.9, 0.5, 0.6, 0.7],
            "the held-out loss has risen since epoch 2, from 0.5 to 0.7: overfitted; use --epochs 2",
        ),
        ([0.9, 0.7, 0.6], "still falling, from 0.7 to 0.6 in the last epoch: more may help, for example --epochs 6"),
        ([0.9, 0.6], "still falling, from 0.9 to 0.6 in the last epoch"),
        ([0.9, 0.6, 0.599], "levelled off"),
        ([0.9, 0.599, 0.6], "levelled off"),
        ([0.6, 0.5999], "levelled off"),
        ([0.9], "one epoch does not show whether more would help; --epochs 3 would"),
    ],
)
def test_the_curve_of_the_held_out_loss_decides(losses: list[float], said: str) -> None:
    (only,) = advice(losses)
    assert said in only


def test_few_steps_are_said_to_be_few_unless_they_were_too_many() -> None:
    assert advice([0.7, 0.69], steps=12) == ("12 optimizer steps are few: try --epochs 17, or a smaller --batch-size",)
    (said,) = advice([0.5, 0.7], steps=12)
    assert "overfitted" in said


def test_a_run_that_stopped_early_says_why() -> None:
    (said,) = advice([0.9, 0.5, 0.6], epochs=10, patience=1)
    assert said == "stopped after epoch 3 of 10: no better held-out score for 1 epochs"


def test_a_run_that_keeps_its_best_epoch_is_not_called_overfitted() -> None:
    (said,) = advice([0.9, 0.5, 0.6], epochs=3, patience=5)
    assert "overfitted" not in said


def test_a_classifier_whose_accuracy_held_is_not_called_overfitted() -> None:
    curve = [{"accuracy": accuracy, "loss": loss} for accuracy, loss in ((0.8, 0.5), (0.9, 0.4), (0.9, 0.6))]
    (said,) = advise(curve, table(3), steps=500, planned=500, held_out=400)
    assert "risen since epoch 2" in said
    assert "though the accuracy has not fallen" in said


def test_few_held_out_texts_give_scores_within_chance() -> None:
    (_, said) = advise([{"accuracy": 0.5, "loss": 1.0}], table(1), steps=500, planned=500, held_out=25)
    assert said == "with 25 held-out texts, accuracies less than 0.20 apart may be chance"


def test_without_scores_there_is_no_advice() -> None:
    assert advise([], table(3), steps=0, planned=0, held_out=10) == ()


def test_scores_by_steps_are_not_taken_for_epochs() -> None:
    (said,) = advice([0.9, 0.5, 0.6, 0.7], epochs=1, every=40)
    assert said.startswith("the held-out loss has risen since step 80, from 0.5 to 0.7: overfitted; use --max-steps 80")
    assert advice([0.9, 0.7], epochs=1, every=40) == ()
    (said,) = advice([0.9, 0.5, 0.6], steps=120, planned=400, epochs=1, every=40, patience=1)
    assert said == "stopped after step 120 of 400: no better held-out score in 1 scorings"
    assert advice([0.9, 0.5, 0.6], steps=400, planned=400, epochs=1, every=40, patience=5) == ()
