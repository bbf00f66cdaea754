"""llama.cpp's server is queried over loopback, is stopped otherwise, and ends with the benchmark."""

import json
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.yardstick.contenders import llama_files
from benchmarks.yardstick.contenders.llama_files import base_file, lora_files
from benchmarks.yardstick.contenders.llama_server import NOT_BUILT, llama_server

STAND_IN = """#!{python}
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

arguments = sys.argv[1:]
if "broken" in arguments[arguments.index("--model") + 1]:
    sys.exit("no such model")
print(json.dumps(arguments), file=sys.stderr, flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/lora-adapters":
            loras = arguments[arguments.index("--lora") + 1].split(",") if "--lora" in arguments else []
            self.wfile.write(json.dumps([path for path in loras if "lost" not in path]).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/completion":
            answer = {{"timings": {{"predicted_n": asked["n_predict"], "predicted_per_token_ms": 7.5}}}}
            body = json.dumps(answer).encode()
        else:
            print(json.dumps(asked), file=sys.stderr, flush=True)
            usage = {{"usage": {{"completion_tokens": asked["max_tokens"] - (asked["prompt"] == [666])}}}}
            body = b"data: {{}}\\n\\ndata: " + json.dumps(usage).encode() + b"\\n\\ndata: [DONE]\\n\\n"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(arguments[arguments.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    return program(tmp_path / "llama-server", STAND_IN.format(python=sys.executable))


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_it_answers_and_stands_still_in_between_and_is_gone_in_the_end(binary: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    loras = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    with llama_server(tmp_path / "m", log, slots=3, slot_tokens=10, loras=loras, binary=binary) as llama:
        process = psutil.Process(llama.process.process.pid)
        wait_until_stopped(process)
        assert llama.generate([[1], [2]], 4, [1, None], temperature=0.5) > 0
        wait_until_stopped(process)
        assert llama.milliseconds_per_token([1], 4) == 7.5
        with pytest.raises(RuntimeError, match=r"returned \[4, 3\] tokens"):
            llama.generate([[1], [666]], 4)
    assert not process.is_running()
    flags, *asked = map(json.loads, log.read_text().splitlines()[:3])
    assert flags[flags.index("--parallel") + 1 : flags.index("--threads")] == ["3", "--ctx-size", "30"]
    assert flags[flags.index("--lora") + 1] == ",".join(map(str, loras))
    by_prompt = {tuple(body["prompt"]): body for body in asked}
    assert by_prompt[(1,)]["lora"] == [{"id": 1, "scale": 1.0}]
    assert "lora" not in by_prompt[(2,)]
    assert {(body["temperature"], body["ignore_eos"]) for body in asked} == {(0.5, True)}


def wait_until_stopped(process: psutil.Process) -> None:
    end = time.monotonic() + 10
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_that_cannot_start_or_is_not_built_says_why(binary: Path, tmp_path: Path) -> None:
    for model, path, why in (("broken", binary, "no such model"), ("m", tmp_path / "none", NOT_BUILT)):
        with (
            pytest.raises(RuntimeError, match=why),
            llama_server(tmp_path / model, tmp_path / "log", slots=1, slot_tokens=8, binary=path),
        ):
            pass


def test_a_server_without_all_its_adapters_does_not_run(binary: Path, tmp_path: Path) -> None:
    loras = [tmp_path / "a.gguf", tmp_path / "lost.gguf"]
    with (
        pytest.raises(RuntimeError, match="did not start"),
        llama_server(tmp_path / "m", tmp_path / "log", slots=1, slot_tokens=8, loras=loras, binary=binary),
    ):
        pass


def test_the_base_is_its_own_file_or_what_llama_quantize_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = '#!/bin/sh\n[ $4 = BF16 ] && { echo no such type; exit 1; }\necho "$2 $4" >> $3\n'
    monkeypatch.setattr(llama_files, "QUANTIZE", program(tmp_path / "llama-quantize", copy))
    gguf = tmp_path / "Base.Q4_1.gguf"
    assert base_file(gguf, "Q4_1", tmp_path) == gguf
    assert base_file(gguf, "Q8_0", tmp_path).read_text() == f"{gguf} Q8_0\n"
    assert base_file(gguf, "Q8_0", tmp_path).read_text() == f"{gguf} Q8_0\n"  # made once
    with pytest.raises(RuntimeError, match="no such type"):
        base_file(gguf, "BF16", tmp_path)
    with pytest.raises(RuntimeError, match="no GGUF file"):
        base_file(None, "Q4_1", tmp_path)


def test_loras_are_converted_by_llama_cpps_own_script_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text("import os\nPROCESS = os.getpid()\n")
    script = program(
        tmp_path / "convert.py",
        "import json, sys\nimport beside\nfrom pathlib import Path\n"
        "Path(sys.argv[4]).write_text(json.dumps([beside.PROCESS, *sys.argv[1:]]))\n",
    )
    monkeypatch.setattr(llama_files, "CONVERT_LORA", script)
    targets = lora_files([tmp_path / "a", tmp_path / "b"], tmp_path / "base", tmp_path / "made")
    first, second = (json.loads(target.read_text()) for target in targets)
    assert [target.name for target in targets] == ["a.gguf", "b.gguf"]
    flags = ["--base", str(tmp_path / "base"), "--outfile", str(targets[0]), "--outtype", "bf16"]
    assert first[1:] == [*flags, str(tmp_path / "a")]
    assert first[0] == second[0]
    monkeypatch.setattr(llama_files, "CONVERT_LORA", tmp_path / "gone.py")
    with pytest.raises(RuntimeError, match=NOT_BUILT):
        lora_files([tmp_path / "c"], tmp_path / "base", tmp_path / "made")
