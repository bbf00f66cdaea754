"""`headmix validate-data`: faults with their places and a status of 2, or what the file has."""

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from headmix_adapters.train.data.checks.cli import validate_data


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(validate_data)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_a_good_file_is_described(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,id\nup,1,a\ndown,0,b\nup,1,\n")
    code, out, err = invoke(path, "--ignore", "id")
    assert (code, err) == (0, f"{path}: field 'id' of 2 rows is ignored\n")
    assert out.splitlines() == [
        "3 rows, 3 examples, 0 rows not learned, about 2 tokens (four characters a token)",
        "        2  1",
        "        1  0",
    ]


def test_every_fault_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": "a"}\n{\n{"text": "x", "lable": "a"}\n{"text": "y", "lable": "a"}\n')
    code, out, err = invoke(path)
    lines = err.splitlines()
    assert (code, len(lines)) == (2, 2)
    assert lines[0].startswith(f"{path}:2: not a JSON object: ")
    assert lines[1].startswith(f"{path}:3: field 'lable' is not supported")
    assert lines[1].endswith("(and 1 more line)")
    assert out.startswith("4 rows, 1 examples")
    code, out, _ = invoke(path, "--json")
    assert (code, [fault["line"] for fault in json.loads(out)["faults"]]) == (2, [2, 3])


def test_a_file_of_one_question_is_said_to_need_one_to_score_with(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"prompt": "A tale?", "completion": "Once {number}"}}\n' for number in range(3)))
    code, out, err = invoke(path)
    assert (code, out.split(",")[0]) == (0, "3 rows")
    assert err.startswith(f"{path}: all rows ask the same")


def test_a_base_renders_every_chat(tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "upload"
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    path.write_text(json.dumps({"messages": turns}))
    code, out, _ = invoke(path, "--format", "jsonl", "--base", tiny_folder)
    assert code == 0
    assert "by the base's tokenizer" in out
    assert invoke(path, "--format", "jsonl", "--base", tmp_path / "gone")[0] == 2
