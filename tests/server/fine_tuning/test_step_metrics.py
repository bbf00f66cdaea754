from headmix_server.fine_tuning.step_metrics import step_metrics_csv


def test_steps_are_lines_with_empty_cells_for_what_was_not_measured() -> None:
    text = step_metrics_csv([{"step": 1, "train_loss": 0.5}, {"step": 2, "train_loss": 0.25, "valid_loss": 0.0}])
    header, first, second = text.splitlines()
    assert header.startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert (first, second) == ("1,0.5,,,,,", "2,0.25,,0.0,,,")
