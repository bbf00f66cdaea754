"""`headmix convert` and `headmix export` print what they wrote, or what prevented it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.adapters.peft_lora import RENAMED
from headmix_adapters.artifact import digest_file, open_artifact
from headmix_adapters.convert import cli
from tests.adapters.convert.conftest import MakeBase, MakePeft

pytestmark = pytest.mark.filterwarnings(RENAMED)


def run(command: str, *arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command("convert")(cli.convert)
    app.command("export")(cli.export)
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_peft_folder_goes_in_and_comes_out_again(make_base: MakeBase, make_peft: MakePeft, tmp_path: Path) -> None:
    base, artifact = make_base("gpt2"), tmp_path / "adapter.safetensors"
    folder, _ = make_peft(base, task_type="SEQ_CLS", target_modules=["c_attn"])
    code, out, _ = run("convert", folder, artifact, "--base", base.folder, "--labels", "good, bad,so so")
    assert (code, out.strip()) == (0, f"{artifact}: {digest_file(artifact)}")
    head = open_artifact(artifact).config.classifier
    assert head is not None
    assert (head.labels, head.problem) == (("good", "bad", "so so"), "single_label")
    code, out, err = run("export", artifact, tmp_path / "again", "--base", base.folder, "--to", "peft-lora")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_refusal_is_one_line_and_leaves_nothing(make_base: MakeBase, make_peft: MakePeft, tmp_path: Path) -> None:
    base, artifact = make_base("llama"), tmp_path / "adapter.safetensors"
    folder, _ = make_peft(base, task_type=None, target_modules=["q_proj"])
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"kasa_config": {"beta": 1}}))
    code, out, err = run("convert", folder, artifact, "--base", base.folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("kasa_config: ")
    assert not artifact.exists()


def test_notes_of_what_was_rearranged_go_to_the_error_stream(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    base, artifact = make_base("llama"), tmp_path / "adapter.safetensors"
    folder, _ = make_peft(base, target_modules=["q_proj"], alpha_pattern={"layers.0.self_attn.q_proj": 1})
    code, _, err = run("convert", folder, artifact, "--base", base.folder)
    assert (code, err.strip()) == (0, "site q: 2 different scales were multiplied into B")
    assert open_artifact(artifact).config.training["notes"] == [err.strip()]


def test_an_artifact_breaking_a_rule_of_the_format_is_not_written(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    base, artifact = make_base("llama"), tmp_path / "adapter.safetensors"
    folder, _ = make_peft(base, r=300, target_modules=["gate_proj", "up_proj"])
    code, _, err = run("convert", folder, artifact, "--base", base.folder)
    reason = "600 (300 of gate_proj and 300 of up_proj, which an artifact keeps as one) is not between 1 and 512"
    assert (code, err.strip()) == (2, f"sites.gate_up.shared.rank: {reason}")
    assert [path.name for path in tmp_path.iterdir()] == ["peft"]


def test_only_the_two_formats_can_be_written(make_base: MakeBase, make_peft: MakePeft, tmp_path: Path) -> None:
    base, artifact = make_base("llama"), tmp_path / "adapter.safetensors"
    folder, _ = make_peft(base, target_modules=["q_proj"])
    run("convert", folder, artifact, "--base", base.folder)
    code, _, err = run("export", artifact, tmp_path / "out", "--base", base.folder, "--to", "ia3")
    assert code == 2
    assert all(word in err for word in ("--to", "ia3", "peft-lora", "peft-bdlora"))


def test_what_is_there_is_replaced_with_force_alone_and_before_any_work(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    base, artifact, out = make_base("llama"), tmp_path / "adapter.safetensors", tmp_path / "out"
    folder, _ = make_peft(base, target_modules=["q_proj"])
    artifact.write_bytes(b"a good adapter")
    code, _, err = run("convert", folder, artifact, "--base", "/no/such/base")
    assert (code, err.strip()) == (2, f"{artifact}: exists; --force replaces it")
    assert artifact.read_bytes() == b"a good adapter"
    assert run("convert", folder, artifact, "--base", base.folder, "--force")[0] == 0
    assert run("export", artifact, out, "--base", base.folder)[0] == 0
    weights = out / "adapter_model.safetensors"
    code, _, err = run("export", artifact, out, "--base", "/no/such/base")
    assert (code, err.strip()) == (2, f"{weights}: exists; --force replaces it")
    assert run("export", artifact, out, "--base", base.folder, "--force")[0] == 0


def test_a_place_that_cannot_be_written_is_another_exit_status(
    make_base: MakeBase, make_peft: MakePeft, tmp_path: Path
) -> None:
    base = make_base("llama")
    folder, _ = make_peft(base, target_modules=["q_proj"])
    code, _, err = run("convert", folder, tmp_path / "no" / "such" / "folder.safetensors", "--base", base.folder)
    assert code == 1
    assert len(err.splitlines()) == 1
