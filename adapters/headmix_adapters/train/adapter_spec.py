"""From a recipe to the adapter it describes: its config and the layers it adapts. Does not load torch."""

from importlib.metadata import PackageNotFoundError, version

from headmix_adapters.artifact import ArtifactError, Limits
from headmix_adapters.artifact.checks.rules import check_dimensions, check_meaning
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.config import AdapterConfig, BaseShape, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.presets import HEAD_BASES, Ranks, kernel_mix_sites, preset_ranks
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.recipe import AdapterTable, Recipe


def adapter_config(recipe: Recipe, base: BaseShape, chat_template: str = "") -> AdapterConfig:
    """Return the config of the adapter a recipe describes, for a base; `training` is still empty.

    `chat_template` is the source that the recipe names.

    Raises:
        RecipeError: the finished artifact would be refused (because of its labels, for example), so training is
            pointless.
    """
    config = AdapterConfig(
        method="lora" if recipe.adapter.method == "lora" else "kernel-mix",
        task=recipe.task,
        base=base,
        sites=adapter_sites(recipe.adapter),
        classifier=recipe.classifier,
        added_tokens=recipe.added_tokens,
        chat_template=chat_template,
        examples=recipe.examples or (),
        created_by=f"headmix {_own_version()}",
    )
    faults = FaultList()
    check_dimensions(config, Limits(), faults)
    check_meaning(config, Limits(), faults)
    try:
        faults.raise_if_any()
    except ArtifactError as error:
        raise RecipeError(f"{recipe.name}: {error}") from error
    return config


def adapter_sites(table: AdapterTable) -> Sites:
    """Return the sites; ranks given along with a preset override the preset's."""
    if table.method != "kernel-mix":
        return _lora_sites(table)
    preset = Ranks(0, 0, 0, 0) if table.preset is None else preset_ranks(table.preset)
    ranks = Ranks(
        q=preset.q if table.rank_q is None else table.rank_q,
        v=preset.v if table.rank_v is None else table.rank_v,
        q_shared=preset.q_shared if table.rank_q_shared is None else table.rank_q_shared,
        v_shared=preset.v_shared if table.rank_v_shared is None else table.rank_v_shared,
        output=preset.output,
    )
    return kernel_mix_sites(ranks, value_base=table.value_base or "k")


def _lora_sites(table: AdapterTable) -> Sites:
    rank = table.rank or 0
    scale = 1.0 if table.alpha is None else table.alpha / rank
    chosen = table.sites or ()
    if table.method == "bd-lora":
        heads = {site: HeadPart(rank=rank, base=HEAD_BASES[site], scale=scale, bias=False) for site in chosen}
        return Sites(**{site: SiteConfig(head=head) for site, head in heads.items()})
    return Sites(**dict.fromkeys(chosen, SiteConfig(shared=SharedPart(rank=rank, scale=scale))))


def adapted_layers(recipe: Recipe, base: BaseShape) -> tuple[int, ...]:
    """Return the layers to adapt.

    Raises:
        RecipeError: the range goes beyond the base's last layer.
    """
    first, end = recipe.adapter.layers or (0, base.num_layers)
    if end > base.num_layers:
        raise RecipeError(f"adapter.layers ends at {end}, but {base.name} has {base.num_layers} layers")
    return tuple(range(first, end))


def _own_version() -> str:
    try:
        return version("headmix")
    except PackageNotFoundError:
        return "from source"
