"""A conversion reports its progress, can be stopped, and does not outlive the process that waits for it."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from harness.bases.gguf_files import write_tiny_gguf
from headmix_adapters.base import BaseError
from headmix_adapters.base.gguf import convert as convert_gguf
from headmix_adapters.base.gguf.conversion import run_conversion
from headmix_adapters.base.gguf.conversion_progress import (
    STAGES,
    ConversionProgress,
    decode_progress,
    encode_progress,
    progress_of,
)
from headmix_adapters.base.gguf.library import opened_once


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def test_a_conversion_goes_through_every_stage_and_never_back(tiny: Path, tmp_path: Path) -> None:
    told: list[ConversionProgress] = []
    convert_gguf.convert(tiny, tmp_path / "out", told.append)
    assert {progress.file for progress in told} == {"tiny.gguf"}
    assert list(dict.fromkeys(progress.stage for progress in told)) == [stage for stage, _ in STAGES]
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert 0 <= told[0].done < told[-1].done <= 1


def test_a_stage_that_is_done_is_where_the_next_begins() -> None:
    for (stage, _), (_, following) in zip(STAGES, [*STAGES[1:], ("", 1.0)], strict=True):
        assert progress_of("x", stage, 1.0).done == following


def test_progress_crosses_to_the_other_process_among_whatever_libraries_print() -> None:
    progress = progress_of("a\nb.gguf", "starting", 0.5)
    assert decode_progress(encode_progress(progress)) == progress
    assert "\n" not in encode_progress(progress)
    for other in ("", "Loading weights: 100%", "{}", '{"file": 1}', "[]"):
        assert decode_progress(other) is None


def test_the_file_is_read_once_and_the_library_is_as_before_afterwards(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    class Counted(gguf.GGUFReader):
        def __init__(self, path: Path) -> None:
            read.append(str(path))
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", Counted)
    before = (gguf.GGUFReader, gguf.dequantize, gguf.get_tensor_name_map)
    convert_gguf.convert(tiny, tmp_path / "out")
    assert read == [str(tiny)]
    assert (gguf.GGUFReader, gguf.dequantize, gguf.get_tensor_name_map) == before


def test_another_file_is_read_as_before(tiny: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    with opened_once(tiny, lambda _: None) as reader:
        assert gguf.GGUFReader(str(tiny)) is reader
        assert gguf.GGUFReader(tmp_path / "other.gguf") is not reader


def test_the_waiting_process_gets_progress_and_the_folder(tiny: Path, tmp_path: Path) -> None:
    told: list[ConversionProgress] = []
    run_conversion(tiny, tmp_path / "out", told.append)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert told


def test_the_waiting_process_can_end_it_and_nothing_is_left(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []

    class Noted(subprocess.Popen[str]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            started.append(self)

    class StoppedError(Exception):
        pass

    def stop(_: ConversionProgress) -> None:
        raise StoppedError

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(StoppedError):
        run_conversion(tiny, tmp_path / "out", stop)
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    assert not (tmp_path / "out").exists()


def test_a_failure_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BaseError, match=r"broken\.gguf cannot be converted: \w+"):
        run_conversion(tmp_path / "broken.gguf", tmp_path / "out", lambda _: None)


def test_a_converter_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headmix_adapters.base.gguf.convert", str(tmp_path / "no.gguf"), "out"]
    os.mkfifo(tmp_path / "no.gguf")  # opening it blocks on a writer that never comes
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert select.select([process.stdout], [], [], 60)[0]
        process.stdin.close()
        assert process.wait(60) == convert_gguf.ORPHANED
