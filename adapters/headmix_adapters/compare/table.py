"""A comparison as a table for a terminal: a column per adapter."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.compare.comparison import Compared, Comparison
from headmix_adapters.config import SiteConfig
from headmix_adapters.headmap.head_map import HeadMap

_COUNTS = ("answer_tokens",)


def comparison_table(comparison: Comparison) -> Table:
    """Return the table; all text from the files is quoted, so that it cannot control the terminal."""
    table = Table("", box=box.SIMPLE_HEAD, pad_edge=False)
    for adapter in comparison.adapters:
        table.add_column(Text(quoted(adapter.name)), justify="right", overflow="fold")
    for name, cells in _rows(comparison.adapters):
        table.add_row(Text(name), *(Text(cell) for cell in cells))
    return table


def _rows(adapters: Sequence[Compared]) -> Iterator[tuple[str, list[str]]]:
    sites = dict.fromkeys(site for adapter in adapters for site in adapter.sites)
    for name in dict.fromkeys(name for adapter in adapters for name in adapter.scores):
        yield quoted(name.replace("_", " ")), [_number(adapter.scores.get(name), name) for adapter in adapters]
    yield "method", [f"{adapter.method}, {adapter.task}" for adapter in adapters]
    yield "base", [quoted(adapter.base) for adapter in adapters]
    yield "layers", [_range(adapter.layers) for adapter in adapters]
    for site in sites:
        yield f"ranks at {site}", [_ranks(adapter.sites.get(site)) for adapter in adapters]
    yield "parameters", [f"{adapter.parameters:,}" for adapter in adapters]
    yield "bytes", [f"{adapter.bytes:,}" for adapter in adapters]
    if any(adapter.head_map is not None for adapter in adapters):
        for site in sites:
            yield f"mean change of {site}", [_mean(adapter.head_map, site) for adapter in adapters]
            yield f"most at {site}", [_most(adapter.head_map, site) for adapter in adapters]


def _number(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if name in _COUNTS else f"{value:.4g}"


def _range(layers: tuple[int, ...]) -> str:
    if not layers:
        return "none"
    whole = layers == tuple(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if whole else f"{len(layers)} of {layers[0]}-{layers[-1]}"


def _ranks(site: SiteConfig | None) -> str:
    if site is None:
        return "-"
    head = [] if site.head is None else [f"{site.head.rank} per head"]
    return ", ".join([*head, *([] if site.shared is None else [f"{site.shared.rank} shared"])])


def _mean(head_map: HeadMap | None, site: str) -> str:
    values = _shares(head_map, site)
    return f"{sum(values) / len(values):.2%}" if values else "-"


def _most(head_map: HeadMap | None, site: str) -> str:
    if head_map is None or not _shares(head_map, site):
        return "-"
    rows = zip(head_map.layers, head_map.sites[site].relative, strict=True)
    share, layer, head = max((share, layer, head) for layer, row in rows for head, share in enumerate(row))
    return f"{share:.2%}, layer {layer} head {head}"


def _shares(head_map: HeadMap | None, site: str) -> list[float]:
    if head_map is None or site not in head_map.sites:
        return []
    return [share for row in head_map.sites[site].relative for share in row]
