"""docs/settings.md lists every setting as the code describes it.

`python -m tests.server.test_settings_docs` writes the lists.
"""

import textwrap
from pathlib import Path

import pytest

from headmix_server.core.settings.groups import GROUPS
from headmix_server.core.settings.names import flag, variable
from headmix_server.core.settings.settings import Settings

pytestmark = pytest.mark.drift


DOCS = Path(__file__).parents[2] / "docs" / "settings.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


def test_the_page_lists_every_setting_with_its_variable_default_and_meaning() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) : text.index(END)] == BEGIN + "\n" + listed()


def listed() -> str:
    return "".join(f"## {group}\n\n" + "\n".join(map(_item, names)) + "\n\n" for group, names in GROUPS.items())


def _item(name: str) -> str:
    field = Settings.model_fields[name]
    head = f"* `{flag(name)}`, `{variable(name)}` (default {_default(field.default)}):"
    body = textwrap.wrap(str(field.description), 98, break_long_words=False, break_on_hyphens=False)
    return "\n".join([head, *(f"  {line}" for line in body)])


def _default(value: object) -> str:
    return "none" if value is None else f"`{value}`"


if __name__ == "__main__":
    page = DOCS.read_text(encoding="utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}\n{listed()}{END}{after}", encoding="utf-8")
