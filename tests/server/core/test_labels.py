import pytest

from harness.adapters.artifacts import classifier_config
from headmix_server.core.errors import InternalError
from headmix_server.core.labels import read_scores


def test_the_best_label_is_told_and_of_a_multi_label_head_all_that_reach_a_half() -> None:
    assert read_scores([0.2, 0.7, 0.1], classifier_config("a", "b", "c")) == ("b", None)
    several = classifier_config("a", "b", "c", problem="multi_label")
    assert read_scores([0.5, 0.7, 0.4], several) == ("b", ("a", "b"))
    assert read_scores([0.1, 0.0, 0.4], several) == ("c", ())


def test_scores_of_another_number_than_the_labels_are_a_fault_of_ours() -> None:
    with pytest.raises(InternalError, match="2 scores for 3 labels"):
        read_scores([0.5, 0.5], classifier_config("a", "b", "c"))
