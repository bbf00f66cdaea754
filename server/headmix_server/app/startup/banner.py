"""The startup banner: where the server listens, what it serves, and commands to paste.

Plain text on stdout; the log goes to stderr.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from headmix_adapters.config import ExamplePrompt
from headmix_adapters.printable import printable
from headmix_server.catalog.version import AdapterVersion
from headmix_server.tenancy.keys.admin_key import FILE_NAME

MAX_LISTED = 20
"""The number of adapters that are listed and get a command; a catalog may contain thousands."""
MAX_EXPECTED = 100
DEFAULT_URL = "http://127.0.0.1:8000"
"""The command line's default URL."""
MAX_TOKENS = 64

BASE_QUESTION = "What is the capital of France?"
BEGINNING = "Once upon a time"
TEXT = "A text to classify."
"""Prompts for adapters without examples."""


@dataclass(frozen=True, slots=True)
class Banner:
    """Everything that the banner shows.

    `adapters` are the first of `num_adapters`; `examples` has the first example prompt of each, by digest. `new_key` is
    the admin key if this start created it; `data_dir` None means that keys are off. `program` is the command line's
    name if it can find the key by itself.
    """

    url: str
    base: str
    generates: bool
    chats: bool
    adapters: Sequence[AdapterVersion]
    examples: Mapping[str, ExamplePrompt]
    num_adapters: int
    data_dir: Path | None
    new_key: str | None
    program: str | None = None

    def print(self, console: Console) -> None:
        """Print the banner; commands are never wrapped, so that they can be pasted."""
        for line in self._lines():
            console.print(line, soft_wrap=True, highlight=False)

    def _lines(self) -> Iterable[Text]:
        yield _fact("headmix serves", self.url)
        yield _fact("base", self.base)
        if self.new_key is not None and self.data_dir is not None:
            yield _fact("admin key", f"{self.new_key}  (shown only once; also in {self.data_dir / FILE_NAME})")
        yield _fact("adapters", str(self.num_adapters))
        shown = self.adapters[:MAX_LISTED]
        for adapter in shown:
            yield Text(f"  {adapter.reference}  {adapter.task}  {adapter.method}  {adapter.digest[:19]}")
        if len(shown) < self.num_adapters:
            yield Text(f"  and {self.num_adapters - len(shown)} more: see {self.url}/v1/adapters")
        for title, command in self._commands(shown):
            yield Text("")
            yield Text(f"# {title}", style="dim")
            yield Text(command)

    def _commands(self, adapters: Iterable[AdapterVersion]) -> Iterable[tuple[str, str]]:
        if self.chats:
            yield "chat with the base", self._post("/v1/chat/completions", _chat(self.base, BASE_QUESTION))
        elif self.generates:
            yield "complete with the base", self._post("/v1/completions", _completion(self.base, BEGINNING))
        for adapter in adapters:
            yield self._command(adapter)
        yield "metrics", f"curl -s {self.url}/metrics"
        if self.program is not None:
            server = "" if self.url == DEFAULT_URL else f" --base-url {self.url}"
            asked = f"chat {shlex.quote(BASE_QUESTION)}" if self.chats else "models"
            yield "without curl, from this folder", f"{self.program}{server} {asked}"

    def _command(self, adapter: AdapterVersion) -> tuple[str, str]:
        """Return a command with the adapter's first example prompt, and the expected result."""
        example = self.examples.get(adapter.digest)
        expected = "" if example is None or not example.expect else f": expect {_short(example.expect)}"
        prompt = None if example is None else example.prompt
        if adapter.task == "classification":
            body: dict[str, object] = {"model": adapter.name, "input": [prompt or TEXT]}
            return f"classify with {adapter.name}{expected}", self._post("/v1/classify", body)
        title = f"generate with {adapter.name}{expected}"
        if example is not None and example.chat and (self.chats or adapter.config.chat_template):
            tools = {"tools": list(example.tools)} if example.tools else {}
            return title, self._post("/v1/chat/completions", _chat(adapter.name, example.prompt) | tools)
        return title, self._post("/v1/completions", _completion(adapter.name, prompt or BEGINNING))

    def _post(self, path: str, body: dict[str, object]) -> str:
        content = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
        return f"curl -s {self._authorization()}{content} {self.url}{path}"

    def _authorization(self) -> str:
        if self.data_dir is None:
            return ""
        return f'-H "Authorization: Bearer $(cat {shlex.quote(str(self.data_dir / FILE_NAME))})" '


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), printable(value))


def _short(text: str) -> str:
    """Return the text for use in a comment: a single short line without control characters."""
    line = printable(text)
    return line if len(line) <= MAX_EXPECTED else f"{line[:MAX_EXPECTED]}..."


def _chat(model: str, question: str) -> dict[str, object]:
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}


def _completion(model: str, prompt: str) -> dict[str, object]:
    return {"model": model, "prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0}
