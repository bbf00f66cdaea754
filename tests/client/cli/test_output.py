import pytest

from headmix.cli.output import print_table


def test_a_table_wider_than_the_terminal_keeps_its_words_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    row = ["a-rather-long-adapter-name", 3, "generation", "kernel-mix", None]
    print_table(["name", "version", "task", "method", "labels"], [row])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("a-rather-long-adapter-name", "generation", "kernel-mix", "-"))
