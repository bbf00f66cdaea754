"""Answer every schema of a folder in the JSON-Schema-Test-Suite's format; the last line is JSON.

python -m harness.schemas FOLDER      for example tests/draft2020-12 of the suite, or json/tests of jsonschema's sdist

The folder's files are lists of objects with a `schema`. Exits 1 if a text that ended does not fit its schema.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from harness.bases.tiny_model import make_tiny_llama
from harness.memory import resident_mib
from harness.progress import Progress
from harness.schemas.answers import answer_all
from harness.schemas.keywords import Schema
from headmix_server import LLM

AT_ONCE = 300


def main() -> int:
    """Answer, print what is wrong, and return 1 if anything is."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.schemas", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    found = read_schemas(parser.parse_args().folder)
    counts: Counter[str] = Counter(schemas=len(found))
    progress, resident = Progress("schemas"), [0.0]
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        make_tiny_llama(base)
        llm = LLM(os.fspath(base), progress=False, device="cpu", kv_cache_mib=64, max_running=AT_ONCE, adapter_slots=1)
        for start in range(0, len(found), AT_ONCE):
            answers = answer_all(llm, base, found[start : start + AT_ONCE])
            wrong = list(answers.wrong())
            counts.update(accepted=len(answers.accepted), refused=len(answers.refusals), ended=len(answers.ended))
            counts.update(wrong=len(wrong))
            for schema, text, reason in wrong:
                print(f"{json.dumps(schema)[:300]}\n  {text[:200]!r}: {reason[:200]}")
            resident.append(resident_mib())
            progress.show((start + AT_ONCE) / len(found), f"{counts['wrong']} wrong")
        llm.close()
    progress.end()
    print(json.dumps({"schemas": counts, "resident_mib": [round(mib) for mib in resident[1:]]}))
    return 1 if counts["wrong"] else 0


def read_schemas(folder: Path) -> list[Schema]:
    """Return the schemas in a folder's files."""
    groups = [
        group for file in sorted(folder.rglob("*.json")) for group in json.loads(file.read_text(encoding="utf-8"))
    ]
    return [group["schema"] for group in groups]


if __name__ == "__main__":
    sys.exit(main())
