"""The adapters of an `LLM`: files that are verified like an upload, under the names they were given.

Owns the names and what each refers to. It does not know what computes with the adapters.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.artifact import digest_file, verify_artifact
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.core.artifact_limits import artifact_limits
from headmix_server.core.errors import ModelNotFound
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import AdapterRef
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.vocabularies import Vocabularies

TENANT = "local"


@dataclass(frozen=True, slots=True)
class LocalAdapter:
    """An adapter that is ready to serve: its reference for the engine, its header, and its tokenizer.

    `chat_template` is its own; None if its chats use the base's.
    """

    ref: AdapterRef
    config: AdapterConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None


class Adapters(Mapping[str, LocalAdapter]):
    """Adapters by name. A PEFT folder is converted into a temporary artifact, which `close` removes."""

    def __init__(self, base: ResolvedBase, tokenizer: Tokenizer, settings: Settings) -> None:
        self._base = base
        self._vocabularies = Vocabularies(tokenizer, base.shape.vocab_size)
        self._limits = artifact_limits(settings)
        self._converted = tempfile.TemporaryDirectory(prefix="headmix-llm-")
        self._by_name: dict[str, LocalAdapter] = {}

    def __getitem__(self, name: str) -> LocalAdapter:
        found = self._by_name.get(name)
        if found is None:
            known = ", ".join(sorted(self._by_name)) or "there are none"
            raise ModelNotFound(f"There is no adapter {name!r}; the adapters are: {known}.", param="adapter")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, name: str, source: Path, *, allow_base_mismatch: bool = False) -> str | None:
        """Verify an artifact, or convert a PEFT folder, and name it; return the digest that lost its last name, if any.

        Raises:
            ArtifactError: the artifact is invalid; all faults are listed.
            ConvertError: the folder cannot be converted exactly.
            AddedTokensError: the adapter's tokens cannot be added to the base's vocabulary.
            OSError: the files cannot be read.
        """
        path = self._convert(source) if source.is_dir() else source
        artifact = verify_artifact(
            path, base=self._base.shape, limits=self._limits, allow_base_mismatch=allow_base_mismatch
        )
        digest = digest_file(path)
        ref = AdapterRef(
            digest=digest,
            base=self._base.shape.fingerprint,
            path=str(path.resolve()),
            name=name,
            version=1,
            tenant=TENANT,
        )
        tokenizer = self._vocabularies.tokenizer(digest, artifact.config.added_tokens)
        own = artifact.config.chat_template
        template = ChatTemplate(own, tokenizer.special_tokens) if own else None
        before = self._by_name.get(name)
        self._by_name[name] = LocalAdapter(ref, artifact.config, tokenizer, template)
        return None if before is None else self._unnamed(before.ref.digest)

    def remove(self, name: str) -> str | None:
        """Remove a name; return its digest, or None if another name has the same one.

        Raises:
            ModelNotFound: there is no such adapter.
        """
        digest = self[name].ref.digest
        del self._by_name[name]
        return self._unnamed(digest)

    def _unnamed(self, digest: str) -> str | None:
        return None if any(adapter.ref.digest == digest for adapter in self._by_name.values()) else digest

    def close(self) -> None:
        """Remove converted artifacts."""
        self._by_name.clear()
        self._converted.cleanup()

    def _convert(self, folder: Path) -> Path:
        # This imports torch, which reading an artifact does not need.
        from headmix_adapters.convert.result import save_converted
        from headmix_adapters.convert.source import convert_source

        path = Path(self._converted.name) / f"{len(list(Path(self._converted.name).iterdir()))}.safetensors"
        save_converted(convert_source(folder, self._base), path)
        return path
