"""The generated pages cover every route, command, method and type, without raw Python representations."""

import inspect
import json
import re
from functools import cache

import pytest

import headmix
from docs.site.reference import GENERATORS
from docs.site.reference.docstrings import docstring, signature
from docs.site.reference.http_api import DOCUMENT
from docs.site.reference.markdown import anchor
from headmix_server.core.settings.names import flag
from headmix_server.core.settings.settings import Settings

pytestmark = pytest.mark.drift


@cache
def written(page: str) -> str:
    return GENERATORS[page]()


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", written(page), re.MULTILINE)


def test_every_route_and_body_has_a_section() -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert routes | document["components"]["schemas"].keys() <= set(headings("http-api"))


def test_every_link_of_the_routes_leads_to_a_section() -> None:
    anchors = [anchor(heading) for heading in headings("http-api")]
    assert set(re.findall(r"\]\(#([^)]+)\)", written("http-api"))) <= set(anchors)
    assert len(anchors) == len(set(anchors))


@pytest.mark.parametrize("command", ["chat", "adapters push", "tenants adapters list", "serve", "train", "convert"])
def test_commands_of_every_part_have_a_section(command: str) -> None:
    assert f"headmix {command}" in headings("command-line")


def test_every_setting_is_a_flag_of_serve() -> None:
    section = written("command-line").partition("## headmix serve\n")[2].partition("\n## ")[0]
    missing = [name for name in Settings.model_fields if f"`{flag(name)}`" not in section]
    assert missing == []


def test_every_public_name_of_the_client_is_on_its_page() -> None:
    missing = [name for name in headmix.__all__ if not re.search(rf"\b{name}\b", written("python-client"))]
    assert missing == ["__version__"]


@pytest.mark.parametrize("page", GENERATORS)
def test_nothing_on_a_page_is_a_representation_of_an_object(page: str) -> None:
    assert re.findall(r"<(?:class|function|object|enum)\b.*|\bat 0x.*|.*ForwardRef.*", written(page)) == []


def example(name: str, *, count: int = 2, unit: str = "ms", **rest: int) -> list[str]:
    """Do it.

    Raises:
        ValueError: not now,
            but perhaps later.
        OSError: never.
    """
    raise NotImplementedError((name, count, unit, rest))


def test_a_signature_and_a_docstring_read_as_they_were_written() -> None:
    assert signature("example", example) == (
        "```python\nexample(name: str, *, count: int = 2, unit: str = 'ms', **rest: int) -> list[str]\n```\n\n"
    )
    assert docstring(example).strip() == inspect.cleandoc(
        """
        Do it.

        Raises:

        * ValueError: not now,
                but perhaps later.
        * OSError: never.
        """
    )
