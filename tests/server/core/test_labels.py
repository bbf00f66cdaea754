import pytest

from harness.adapters.artifacts import classifier_config
from headmix_server.core.errors import InternalError
from headmix_server.core.labels import read_scores


def test_the_best_label_is_returned_and_of_a_multi_label_head_all_that_reach_a_half() -> None:
    assert read_scores([0.2, 0.7, 0.1], classifier_config("a", "b", "c")) == ("b", None)
    several = classifier_config("a", "b", "c", problem="multi_label")
    assert read_scores([0.5, 0.7, 0.4], several) == ("b", ("a", "b"))
    assert read_scores([0.1, 0.0, 0.4], several) == ("c", ())


def test_a_number_of_scores_other_than_that_of_labels_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="2 scores for 3 labels"):
        read_scores([0.5, 0.5], classifier_config("a", "b", "c"))
