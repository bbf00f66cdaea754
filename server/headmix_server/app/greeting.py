"""What the person who started the server reads: where it is, what it serves, and commands to paste.

Text only, on stdout; the log is elsewhere (stderr, JSON).
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from headmix_server.catalog.version import AdapterVersion
from headmix_server.tenancy.admin_key import FILE_NAME

MAX_LISTED = 20
"""Adapters that are listed and get a command; a catalog may hold thousands."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """Everything to be told.

    `adapters` are the first of `num_adapters`. `new_key` is the admin key where this start made it; `data_dir` None
    means keys are off.
    """

    url: str
    base: str
    generates: bool
    chats: bool
    adapters: Sequence[AdapterVersion]
    num_adapters: int
    data_dir: Path | None
    new_key: str | None

    def print(self, console: Console) -> None:
        """Write the greeting; commands are never wrapped, so that they can be pasted."""
        for line in self._lines():
            console.print(line, soft_wrap=True, highlight=False)

    def _lines(self) -> Iterable[Text]:
        yield _fact("headmix serves", self.url)
        yield _fact("base", self.base)
        if self.new_key is not None and self.data_dir is not None:
            yield _fact("admin key", f"{self.new_key}  (shown this once; also in {self.data_dir / FILE_NAME})")
        yield _fact("adapters", str(self.num_adapters))
        shown = self.adapters[:MAX_LISTED]
        for adapter in shown:
            yield Text(f"  {adapter.reference}  {adapter.task}  {adapter.method}  {adapter.digest[:19]}")
        if len(shown) < self.num_adapters:
            yield Text(f"  and {self.num_adapters - len(shown)} more: see {self.url}/v1/adapters")
        yield Text("")
        for title, command in self._commands(shown):
            yield Text(f"# {title}", style="dim")
            yield Text(command)

    def _commands(self, adapters: Iterable[AdapterVersion]) -> Iterable[tuple[str, str]]:
        if self.chats:
            yield "chat with the base", self._post("/v1/chat/completions", _chat(self.base))
        elif self.generates:
            yield "complete with the base", self._post("/v1/completions", _completion(self.base))
        for adapter in adapters:
            if adapter.task == "classification":
                body: dict[str, object] = {"model": adapter.name, "input": ["Free entry: text WIN to 80082 now!"]}
                yield f"classify with {adapter.name}", self._post("/v1/classify", body)
            else:
                yield f"generate with {adapter.name}", self._post("/v1/completions", _completion(adapter.name))
        yield "metrics", f"curl -s {self.url}/metrics"

    def _post(self, path: str, body: dict[str, object]) -> str:
        content = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
        return f"curl -s {self._authorization()}{content} {self.url}{path}"

    def _authorization(self) -> str:
        if self.data_dir is None:
            return ""
        return f'-H "Authorization: Bearer $(cat {shlex.quote(str(self.data_dir / FILE_NAME))})" '


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), value)


def _chat(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Say hello in one sentence."}], "max_tokens": 48}


def _completion(model: str) -> dict[str, object]:
    return {"model": model, "prompt": "Once upon a time", "max_tokens": 48}
