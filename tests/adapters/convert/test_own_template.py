"""An adapter from elsewhere brings the chat template it was trained with, where that is not the base's."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.adapters.peft_lora import RENAMED
from headmix_adapters.artifact import open_artifact
from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.export.export import export_peft_lora
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import ConvertOptions, convert_source
from tests.adapters.convert.conftest import MakeBase, MakePeft

pytestmark = pytest.mark.filterwarnings(RENAMED)

OWN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
FILE = "chat_template.jinja"


def with_template(base: ResolvedBase, folder: Path, source: str) -> ResolvedBase:
    """A copy of the base with a chat template."""
    copy = folder / "base"
    copy.mkdir()
    for path in base.folder.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / FILE).unlink(missing_ok=True)
    (copy / FILE).write_text(source, encoding="utf-8")
    return replace(base, folder=copy)


@pytest.mark.parametrize(("saved", "own"), [(None, ""), ("the base's", ""), (OWN, OWN)], ids=["none", "same", "own"])
def test_the_template_saved_with_the_adapter_is_taken_where_it_differs(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path, saved: str | None, own: str
) -> None:
    base = with_template(make_base("llama"), tmp_path, "the base's")
    folder, _ = make_peft(base, target_modules=["q_proj"])
    if saved is not None:
        (folder / FILE).write_text(saved, encoding="utf-8")
    converted = convert_source(folder, base)
    assert converted.config.chat_template == own
    assert converted.notes == (("chat_template: its own, from the adapter's folder",) if own else ())


def test_a_template_in_a_file_counts_and_comes_out_again(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    base, artifact = make_base("llama"), tmp_path / "a.safetensors"
    folder, _ = make_peft(base, target_modules=["q_proj"])
    (folder / FILE).write_text("another", encoding="utf-8")
    (tmp_path / "own.jinja").write_text(OWN, encoding="utf-8")
    save_converted(convert_source(folder, base, ConvertOptions(chat_template=tmp_path / "own.jinja")), artifact)
    assert open_artifact(artifact).config.chat_template == OWN
    (note,) = export_peft_lora(artifact, tmp_path / "out", base)
    assert "apply_chat_template" in note
    assert (tmp_path / "out" / FILE).read_text(encoding="utf-8") == OWN


@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_template_that_cannot_be_read_is_refused_by_name(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path, where: str
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, target_modules=["q_proj"])
    path = folder / FILE if where == "folder" else tmp_path / "own.jinja"
    path.write_bytes(b"\xff")
    options = ConvertOptions(chat_template=path if where == "file" else None)
    with pytest.raises(ConvertError, match=r"^chat_template: "):
        convert_source(folder, base, options)
