"""Pages with a generated part: what a benchmark writes stands between two marks, the rest is written by hand."""


def put_between(page: str, begin: str, end: str, text: str) -> str:
    """Return the page with a text between its marks.

    Raises:
        ValueError: the page does not have each mark once, in order.
    """
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise ValueError("the page has no place for the figures")
    before, after = page.split(begin, maxsplit=1)[0], page.split(end)[1]
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
