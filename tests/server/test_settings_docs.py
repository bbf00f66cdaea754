from pathlib import Path

import pytest

from headmix_server.core.setting_names import flag, variable
from headmix_server.core.settings import Settings

pytestmark = pytest.mark.drift


DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_table_of_settings_says_what_the_settings_are() -> None:
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `--")]
    assert rows == [
        f"| `{flag(name)}` | `{variable(name)}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]


def _default(value: object) -> str:
    return "none" if value is None else f"`{value}`"
