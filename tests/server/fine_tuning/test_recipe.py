from pathlib import Path
from typing import Any

import pytest

from headmix_adapters.train.recipe.quick_recipe import Wishes, quick_recipe
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_server.fine_tuning.recipe import recipe_of
from headmix_server.fine_tuning.request import DataFile, FineTuning, read_request


def request(filename: str = "chats.jsonl", **changes: Any) -> FineTuning:
    file = DataFile(id="file-1", digest="sha256:1", filename=filename, size_bytes=1)
    return FineTuning(name="tone", base="b", fingerprint="sha256:0", training=file, seed=1, actor="key_1", **changes)


def test_a_request_reads_back_and_makes_the_recipe_of_its_own_base(tmp_path: Path) -> None:
    recipe = quick_recipe(Wishes("tone", "b", "training.jsonl", task="generation"), ())
    asked = read_request(request(recipe=recipe).json())
    assert asked == request(recipe=recipe)
    written = load_recipe(recipe_of(asked, tmp_path, base="/here/b"))
    assert (written.base, written.data.train, written.adapter) == ("/here/b", "training.jsonl", recipe.adapter)


def test_data_that_was_not_checked_has_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checked"):
        recipe_of(request(), tmp_path, base="b")


@pytest.mark.parametrize(
    ("filename", "local"),
    [
        ("a.CSV", "training.csv"),
        ("../../x.tsv", "training.tsv"),
        ("upload", "training.jsonl"),
        ("x.j/..", "training.jsonl"),
        ("x.é", "training.jsonl"),
        ("x.JSON", "training.json"),
        *((f"x{end}", "training.jsonl") for end in (".parquet", ".parquet/", ".PARQUET", ".parquet.", ".exe")),
    ],
)
def test_a_local_copy_has_a_safe_name_with_the_files_extension_if_that_is_a_format_that_is_read(
    filename: str, local: str
) -> None:
    assert request(filename).training_name == local
