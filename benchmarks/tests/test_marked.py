"""A benchmark replaces only the generated part of its page."""

import pytest

from benchmarks.marked import put_between


def test_what_stands_between_the_marks_is_replaced_and_nothing_else() -> None:
    page = put_between("# Title\n\n<b>\n\nold\n\n<e>\n\nThe end.\n", "<b>", "<e>", "new")
    assert page == "# Title\n\n<b>\n\nnew\n\n<e>\n\nThe end.\n"


@pytest.mark.parametrize("page", ["<b>", "<e> <b>", "<b> <b> <e>"])
def test_a_page_without_a_place_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        put_between(page, "<b>", "<e>", "new")
