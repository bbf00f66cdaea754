"""What a worker caches: the base's encoder, copies with the words of recently used adapters, and chat templates.

A copy takes tens of megabytes, so the cache is bounded in bytes. When another one does not fit, the tenant with the
most copies loses its least recently used one, so that using many adapters does not evict other tenants' copies.
"""

from collections import Counter, OrderedDict
from functools import cached_property
from pathlib import Path

from headmix_adapters.text.chat_template import ChatTemplate, load_chat_template
from headmix_adapters.text.tokenizer import BaseTokenizer, read_tokenizer
from headmix_server.text.adapter_template import AdapterTemplate
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.extended import ExtendedTokenizer
from headmix_server.text.workers.encoder import Encoder, Words

KEPT_BYTES = 256 << 20
KEPT_TEMPLATES = 32
COPY_FACTOR = 10
"""Bytes in memory of a copy per byte of its JSON, measured for a vocabulary of 49,000 tokens and rounded up."""


class Encoders:
    """Encoders based on the base in `folder`, which is read on first use."""

    def __init__(self, folder: Path, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._folder = folder
        self._kept_bytes = kept_bytes
        self._copies: OrderedDict[str, Encoder] = OrderedDict()
        self._users: dict[str, str] = {}  # the last tenant to use each copy
        self._templates: OrderedDict[AdapterTemplate, ChatTemplate] = OrderedDict()

    def get(self, words: Words | None, tenant: str) -> Encoder:
        """Return the encoder of the base, or of an adapter that adds words to it."""
        if words is None:
            return self._plain
        copy = self._copies.pop(words.digest, None)
        if copy is None:
            self._users[words.digest] = tenant
            self._make_room()
            copy = Encoder(self._base, words)
        self._users[words.digest] = tenant
        self._copies[words.digest] = copy
        return copy

    def template(self, own: AdapterTemplate | None) -> ChatTemplate | None:
        """Return an adapter's chat template, compiled, or the base's if it has none of its own.

        Raises:
            ChatTemplateError: it is not valid.
        """
        if own is None:
            return self._base_template
        template = self._templates.pop(own, None)
        if template is None:
            template = ChatTemplate(own.source, self._base.roles)
        self._templates[own] = template
        if len(self._templates) > KEPT_TEMPLATES:
            self._templates.popitem(last=False)
        return template

    @cached_property
    def _base_template(self) -> ChatTemplate | None:
        return load_chat_template(self._folder, self._base.roles)

    @cached_property
    def grammars(self) -> TokenCompiler:
        """What compiles grammars for the base's vocabulary."""
        tokenizer = self._served
        return TokenCompiler(lambda: tokenizer, tokenizer.next_id, tokenizer.eos_ids)

    def tokenizer(self, words: Words | None) -> Tokenizer:
        """Return the tokenizer that shows tokens of the base, or of an adapter that adds words to it."""
        return self._served if words is None else ExtendedTokenizer(self._served, words.words, words.first)

    @cached_property
    def _served(self) -> Tokenizer:
        return Tokenizer(self._base)

    @cached_property
    def _base(self) -> BaseTokenizer:
        return read_tokenizer(self._folder)

    @cached_property
    def _plain(self) -> Encoder:
        return Encoder(self._base)

    @cached_property
    def _most(self) -> int:
        """The maximum number of copies at a time."""
        return max(1, self._kept_bytes // (COPY_FACTOR * len(self._plain.json)))

    def _make_room(self) -> None:
        """Evict copies until another one fits; its tenant is in `_users` already."""
        while len(self._copies) >= self._most:
            numbers = Counter(self._users.values())
            (heaviest, _), *_ = numbers.most_common(1)
            own = (digest for digest in self._copies if self._users[digest] == heaviest)
            going = next(own, None) or next(iter(self._copies))
            del self._copies[going], self._users[going]
