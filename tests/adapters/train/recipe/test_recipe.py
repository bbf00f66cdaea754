"""A recipe is understood in full, or refused with the key that is wrong, and gives the adapter it describes."""

from pathlib import Path

import msgspec
import pytest

from harness.bases.tiny_model import tiny_shape
from headmix_adapters.config import ExamplePrompt, HeadPart, SiteConfig, Sites
from headmix_adapters.presets import kernel_mix_sites, preset_ranks
from headmix_adapters.sites import num_parameters
from headmix_adapters.train.adapter_spec import adapted_layers, adapter_config, adapter_sites
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.recipe import AdapterTable, Recipe, load_recipe, override

GOOD = """
name = "spam"
base = "tiny"
task = "classification"
[adapter]
preset = "roberta-nlu"
[classifier]
pooling = "last"
kind = "linear"
labels = ["ham", "spam"]
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[training]
epochs = 2
batch_size = 8
learning_rate = 1e-3
seed = 1
"""
EXAMPLES = Path(__file__).parents[4] / "examples"


def load(text: str, tmp_path: Path) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return load_recipe(path)


def test_what_a_recipe_leaves_out_has_the_documented_default(tmp_path: Path) -> None:
    recipe = load(GOOD, tmp_path)
    training = recipe.training
    assert (training.gradient_accumulation, training.label_smoothing, training.warmup_ratio) == (1, 0.0, 0.06)
    assert (training.weight_decay, training.dropout, training.precision) == (0.0, 0.1, "auto")
    assert recipe.classifier is not None
    assert recipe.classifier.problem == "single_label"


def test_whole_numbers_name_labels_as_they_do_in_the_data(tmp_path: Path) -> None:
    recipe = load(GOOD.replace('["ham", "spam"]', '[0, 1, "two"]'), tmp_path)
    assert recipe.classifier is not None
    assert recipe.classifier.labels == ("0", "1", "two")


def test_a_recipes_examples_are_the_artifacts_and_an_empty_list_is_none(tmp_path: Path) -> None:
    told = load(GOOD + '[[examples]]\nprompt = "WIN!"\nexpect = "spam"\n', tmp_path)
    assert adapter_config(told, tiny_shape()).examples == (ExamplePrompt(prompt="WIN!", expect="spam"),)
    none = load(GOOD.replace("task =", "examples = []\ntask ="), tmp_path)
    assert (none.examples, load(GOOD, tmp_path).examples) == ((), None)
    wrong = load(GOOD + '[[examples]]\nprompt = "WIN!"\nexpect = "eggs"\n', tmp_path)
    with pytest.raises(RecipeError, match="eggs is not one of the labels ham, spam"):
        adapter_config(wrong, tiny_shape())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epochs = 2\nepoch = 3", r"unknown field `epoch` - at `\$.training`"),
        ("epochs = 2\n", "", r"missing required field `epochs` - at `\$.training`"),
        ('task = "classification"', 'task = "spam"', r"\$.task`; it must be one of classification, generation"),
        ('"roberta-nlu"', '"roberta"', r"\$.adapter.preset`; it must be one of .*lite-qv, .*roberta-nlu"),
        ("epochs = 2", "epochs = 0", r"\$.training.epochs"),
        ("1e-3", '"fast"', r"\$.training.learning_rate"),
        ("1e-3", "nan", r"\$.training.learning_rate"),
        ("1e-3", "inf", r"\$.training.learning_rate"),
        ("epochs = 2", "epochs = 2\nweight_decay = nan", r"\$.training.weight_decay"),
        ("epochs = 2", "epochs = 2\ndropout = nan", r"\$.training.dropout"),
        ('preset = "roberta-nlu"', 'method = "lora"\nrank = 4\nsites = ["q"]\nalpha = inf', r"\$.adapter.alpha"),
        ("[data]", "x = " + "[" * 20_000, "nested too deeply"),
        ('"roberta-nlu"', '"bert"', r"\$.adapter.preset"),
        ('preset = "roberta-nlu"', "", "a preset or at least one rank"),
        ('preset = "roberta-nlu"', "rank_q = 0", "a preset or at least one rank"),
        ('preset = "roberta-nlu"', 'preset = "lite-qv"\nalpha = 8', "alpha do not belong to method kernel-mix"),
        ('preset = "roberta-nlu"', 'method = "lora"\nrank = 4', "needs rank and sites"),
        ('preset = "roberta-nlu"', 'method = "bd-lora"\nsites = ["q"]', "method bd-lora needs rank and sites"),
        (
            'preset = "roberta-nlu"',
            'method = "bd-lora"\nrank = 1\nsites = ["q", "k", "down"]',
            "method bd-lora has no site down, k: only q, v and o",
        ),
        ('preset = "roberta-nlu"', 'preset = "lite-qv"\nlayers = [2, 2]', r"layers \[2, 2\]"),
        ('"classification"', '"generation"', r"generation has no \[classifier\]"),
        ('kind = "linear"', 'kind = "linear"\npad_token = 0', "classifier.pad_token is for converted adapters"),
        ('name = "spam"', 'name = "../spam"', r"\$.name"),
        ("[data]", "[data", "recipe.toml"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as refusal:
        load(GOOD.replace(old, new), tmp_path)
    assert "recipe.toml" in str(refusal.value)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml: No such file"):
        load_recipe(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(("labels", "message"), [('["ham"]', "at least 2"), ('["ham", "ham"]', "appears twice")])
def test_labels_the_artifact_could_not_have_are_refused_before_training(
    tmp_path: Path, labels: str, message: str
) -> None:
    recipe = load(GOOD.replace('["ham", "spam"]', labels), tmp_path)
    with pytest.raises(RecipeError, match=message):
        adapter_config(recipe, tiny_shape())


def test_layers_beyond_the_base_are_refused(tmp_path: Path) -> None:
    recipe = load(GOOD.replace('"roberta-nlu"', '"roberta-nlu"\nlayers = [1, 4]'), tmp_path)
    with pytest.raises(RecipeError, match="has 3 layers"):
        adapted_layers(recipe, tiny_shape())
    assert adapted_layers(load(GOOD, tmp_path), tiny_shape()) == (0, 1, 2)


def sites(**table: object) -> Sites:
    return adapter_sites(msgspec.convert(table, AdapterTable))


def test_ranks_beside_a_preset_replace_its_own_and_value_base_is_passed_on() -> None:
    assert sites(preset="gpt2-nlg") == kernel_mix_sites(preset_ranks("gpt2-nlg"))
    changed = sites(preset="gpt2-nlg", rank_v=2, rank_q_shared=0, value_base="x")
    assert changed.q is not None
    assert changed.v is not None
    assert changed.v.head is not None
    assert (changed.q.shared, changed.v.head.rank, changed.v.head.base) == (None, 2, "x")
    assert sites(preset="lite-qv").o is None
    assert sites(rank_q=2).present().keys() == {"q"}


def test_lora_has_shared_parts_scaled_by_alpha_over_rank() -> None:
    lora = sites(method="lora", rank=4, alpha=8, sites=["q", "k"])
    assert lora.present().keys() == {"q", "k"}
    assert lora.k is not None
    assert lora.k.shared is not None
    assert (lora.k.head, lora.k.shared.rank, lora.k.shared.scale) == (None, 4, 2.0)


def test_block_diagonal_lora_has_head_parts_without_a_bias(tmp_path: Path) -> None:
    found = sites(method="bd-lora", rank=2, alpha=3, sites=["q", "v", "o"])
    assert found == Sites(
        q=SiteConfig(head=HeadPart(rank=2, base="x", scale=1.5, bias=False)),
        v=SiteConfig(head=HeadPart(rank=2, base="x", scale=1.5, bias=False)),
        o=SiteConfig(head=HeadPart(rank=2, base="a", scale=1.5, bias=False)),
    )
    table = 'method = "bd-lora"\nrank = 2\nsites = ["q"]'
    config = adapter_config(load(GOOD.replace('preset = "roberta-nlu"', table), tmp_path), tiny_shape())
    assert config.method == "kernel-mix"  # the artifact's word for an adapter with head parts


def test_the_command_line_replaces_seed_epochs_and_steps_within_their_ranges(tmp_path: Path) -> None:
    recipe = load(GOOD, tmp_path)
    assert override(recipe, {}) == recipe
    training = override(recipe, {"seed": 9, "epochs": 5, "max_steps": 7}).training
    assert (training.seed, training.epochs, training.max_steps) == (9, 5, 7)
    with pytest.raises(RecipeError, match="epochs"):
        override(recipe, {"epochs": 0})


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_recipe_is_valid_and_its_artifact_stays_under_four_megabytes(path: Path) -> None:
    recipe = load_recipe(path)
    base = msgspec.structs.replace(
        tiny_shape(), hidden_size=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64
    )
    config = adapter_config(recipe, base)
    assert 2 * num_parameters(config, adapted_layers(recipe, base)) < 4_000_000
    assert (EXAMPLES / recipe.data.train).is_file()
    assert recipe.data.eval is not None
    assert (EXAMPLES / recipe.data.eval).is_file()


@pytest.mark.parametrize(
    ("old", "new", "suggested"),
    [
        ("epochs", "epoch", "epochs"),
        ("[training]", "[trainings]", "training"),
        ("seed = 1", "seed = 1\npatience = 2", "early_stopping_patience"),
        ("preset", "presets", "preset"),
    ],
)
def test_an_unknown_key_is_refused_with_the_key_that_was_probably_meant(
    tmp_path: Path, old: str, new: str, suggested: str
) -> None:
    with pytest.raises(RecipeError, match=f"unknown field .*; did you mean `{suggested}`\\?"):
        load(GOOD.replace(old, new), tmp_path)


def test_an_unknown_key_unlike_any_other_is_refused_without_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown field `zzz` - at `\$\.training`$"):
        load(GOOD + "zzz = 1", tmp_path)


def test_a_classifier_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.packing is for generation"):
        load(GOOD + "packing = true", tmp_path)
