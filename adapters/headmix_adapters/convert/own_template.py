"""Finds the chat template that an adapter from elsewhere was trained with, where it is not the base's."""

from dataclasses import replace
from pathlib import Path

import msgspec

from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.result import Converted
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError, load_chat_template

SUBJECT = "chat_template"


def with_own_template(converted: Converted, folder: Path, base: ResolvedBase, given: Path | None) -> Converted:
    """Return the artifact with the template in the file `given`, or with the one that training saved in `folder`.

    Training saves a template with the tokenizer: next to an adapter that was trained with the base's, it is the base's,
    and the artifact needs none.

    Raises:
        ConvertError: a template cannot be read.
    """
    if converted.config.task != "generation":
        if given is not None:
            raise ConvertError(SUBJECT, "a text is classified and not chatted with")
        return converted
    if given is not None:
        return _with(converted, _read(given), given.name)
    own, usual = _saved(folder), _saved(base.folder)
    if own is None or (usual is not None and own.source == usual.source):
        return converted
    return _with(converted, own.source, "the adapter's folder")


def _with(converted: Converted, source: str, origin: str) -> Converted:
    config = msgspec.structs.replace(converted.config, chat_template=source)
    return replace(converted, config=config, notes=(*converted.notes, f"{SUBJECT}: its own, from {origin}"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvertError(SUBJECT, f"{path.name} cannot be read: {error}") from error


def _saved(folder: Path) -> ChatTemplate | None:
    try:
        return load_chat_template(folder, {})
    except (ChatTemplateError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConvertError(SUBJECT, f"the one in {folder.name} cannot be read: {error}") from error
