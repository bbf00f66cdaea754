"""The reference pages, generated from the code at each build and never committed."""

from collections.abc import Callable, Mapping

from docs.site.reference.command_line import command_line_page
from docs.site.reference.http_api import http_api_page
from docs.site.reference.python_client import python_client_page
from docs.site.reference.python_llm import python_llm_page

__all__ = ["GENERATORS"]

GENERATORS: Mapping[str, Callable[[], str]] = {
    "command-line": command_line_page,
    "http-api": http_api_page,
    "python-client": python_client_page,
    "python-llm": python_llm_page,
}
"""The function that writes each page named `generated/NAME` in navigation.toml."""
