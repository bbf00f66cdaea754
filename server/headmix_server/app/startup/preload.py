"""The preload folder: each `*.safetensors` in it becomes an adapter of the tenant `default`, named after its file.

Owns the rule that a file never replaces what a user did. A record in the data folder keeps the digest that each file
was last published as: as long as that is the current version, a changed file replaces it; once a user has uploaded or
rolled back, the name belongs to the user.
"""

import json
from collections.abc import Callable
from pathlib import Path

from headmix_adapters.artifact import digest_file
from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.library import Library
from headmix_server.catalog.version import AdapterRecord
from headmix_server.core.errors import HeadmixServerError, InvalidAdapter, ModelNotFound
from headmix_server.core.observability.logging import get_logger

TENANT = "default"
CHUNK_BYTES = 1 << 20


class Preload:
    """Publishes the files of one folder.

    `record` is the file that records what was published. `verify` checks an upload as the API does, and raises
    `InvalidAdapter` for an invalid one; no file may be larger than `max_bytes`.
    """

    def __init__(
        self, library: Library, record: Path, *, verify: Callable[[Upload], AdapterRecord], max_bytes: int
    ) -> None:
        self._library = library
        self._record = record
        self._verify = verify
        self._max_bytes = max_bytes
        self._log = get_logger("preload")

    def publish_all(self, folder: Path) -> None:
        """Publish every file of the folder, ordered by name; a bad file is logged and does not stop the others."""
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            self._log.error("nothing to preload", folder=str(folder), is_folder=folder.is_dir())
        published = self._read_record()
        for file in files:
            try:
                digest = digest_file(file)
                if self._is_due(file.stem, digest, published.get(file.stem)):
                    self._publish(file)
                    published[file.stem] = digest
            except InvalidAdapter as error:
                self._log.error("preload refused", file=str(file), faults=error.faults)
            except (HeadmixServerError, OSError) as error:
                self._log.error("preload failed", file=str(file), reason=str(error))
        self._write_record(published)

    def _is_due(self, name: str, digest: str, preloaded: str | None) -> bool:
        try:
            current = self._library.catalog.resolve(TENANT, name)
        except ModelNotFound:
            return True
        if any(version.digest == digest for version in self._library.catalog.versions(TENANT, name).versions):
            return False
        if current.digest != preloaded:
            self._log.warning("preload skipped: the name was changed by a user", name=name, current=current.reference)
            return False
        return True

    def _publish(self, file: Path) -> None:
        with self._library.store.receive(max_bytes=self._max_bytes) as upload:
            with file.open("rb") as source:
                while data := source.read(CHUNK_BYTES):
                    upload.write(data)
            upload.finish()
            # The copy is verified, not the file, which may change in the meantime.
            version = self._library.publish(TENANT, file.stem, upload, self._verify(upload)).version
        self._log.info("preloaded", name=version.reference, digest=version.digest)

    def _read_record(self) -> dict[str, str]:
        try:
            content = json.loads(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            # Without it no name counts as preloaded, so users' versions are never replaced.
            self._log.warning("the record of what was preloaded cannot be read", file=str(self._record))
            return {}
        return {str(name): str(digest) for name, digest in content.items()} if isinstance(content, dict) else {}

    def _write_record(self, published: dict[str, str]) -> None:
        draft = self._record.with_suffix(".tmp")
        try:
            draft.write_text(json.dumps(published, indent=1, sort_keys=True), encoding="utf-8")
            draft.replace(self._record)
        except OSError as error:
            self._log.error("the record of what was preloaded cannot be written", reason=str(error))
