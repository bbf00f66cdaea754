"""The table of shapes matches DESIGN's, row by row."""

import msgspec
import pytest

from harness.adapters.artifacts import adapter_config, classifier_config, tiny_base_shape
from headmix_adapters.config import HeadBase, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.sites import (
    TERMS,
    classifier_shapes,
    iter_terms,
    layer_shapes,
    num_parameters,
    tensor_shapes,
    term_shapes,
)

BASE = tiny_base_shape(hidden_size=30, num_heads=6, num_kv_heads=3, head_dim=4, intermediate_size=70)
D, H, G, P, INNER, R = 30, 6, 3, 4, 70, 5


@pytest.mark.parametrize(
    ("site", "head_base", "A", "B", "bias"),
    [
        ("q", "x", (H, R, D), (H, P, R), (H, P)),
        ("q", None, (R, D), (H * P, R), None),
        ("k", None, (R, D), (G * P, R), None),
        ("v", "k", (G, R, P), (G, P, R), (G, P)),
        ("v", "x", (G, R, D), (G, P, R), (G, P)),
        ("v", None, (R, D), (G * P, R), None),
        ("o", "a", (H, R, P), (H, D, R), (D,)),
        ("o", None, (R, H * P), (D, R), None),
        ("gate_up", None, (R, D), (2 * INNER, R), None),
        ("down", None, (R, INNER), (D, R), None),
    ],
)
def test_every_term_has_the_shapes_of_the_design(
    site: str, head_base: HeadBase | None, A: tuple[int, ...], B: tuple[int, ...], bias: tuple[int, ...] | None
) -> None:
    head = None if head_base is None else HeadPart(rank=R, base=head_base)
    part = SiteConfig(head=head, shared=None if head else SharedPart(rank=R))
    (term,) = iter_terms(Sites(**{site: part}))
    expected = {"A": A, "B": B} | ({} if bias is None else {"bias": bias})
    assert term_shapes(term, BASE) == expected


def test_the_table_has_no_other_row() -> None:
    assert len(TERMS) == 10


def test_an_mlp_without_a_gate_has_one_input_projection() -> None:
    (term,) = iter_terms(Sites(gate_up=SiteConfig(shared=SharedPart(rank=R))))
    assert term_shapes(term, msgspec.structs.replace(BASE, gated_mlp=False))["B"] == (INNER, R)


def test_a_head_part_without_bias_has_no_bias_tensor() -> None:
    (term,) = iter_terms(Sites(q=SiteConfig(head=HeadPart(rank=R, base="x", bias=False))))
    assert term_shapes(term, BASE).keys() == {"A", "B"}


@pytest.mark.parametrize(("site", "base"), [("q", "k"), ("q", "a"), ("k", "x"), ("v", "a"), ("o", "x"), ("down", "x")])
def test_a_term_the_method_does_not_define_is_an_error(site: str, base: HeadBase) -> None:
    with pytest.raises(KeyError):
        list(iter_terms(Sites(**{site: SiteConfig(head=HeadPart(rank=1, base=base))})))


def test_names_carry_the_layer_the_site_the_part_and_the_tensor() -> None:
    sites = Sites(
        q=SiteConfig(head=HeadPart(rank=1, base="x"), shared=SharedPart(rank=2)),
        o=SiteConfig(shared=SharedPart(rank=3)),
    )
    config = adapter_config(BASE, sites)
    per_layer = ["q.head.A", "q.head.B", "q.head.bias", "q.shared.A", "q.shared.B", "o.shared.A", "o.shared.B"]
    assert list(layer_shapes(config)) == per_layer
    assert list(tensor_shapes(config, (1,))) == [f"layers.1.{name}" for name in per_layer]
    assert len(tensor_shapes(config)) == len(per_layer) * BASE.num_layers


def test_classifier_and_added_tokens_count_once() -> None:
    config = adapter_config(BASE, Sites(), classifier=classifier_config("a", "b", "c"), added_tokens=("<a>", "<b>"))
    assert tensor_shapes(config) == {
        "classifier.out_proj.weight": (3, D),
        "classifier.out_proj.bias": (3,),
        "added_tokens.embedding": (2, D),
    }
    assert num_parameters(config) == 3 * D + 3 + 2 * D


def test_the_mlp_head_has_a_square_layer_first() -> None:
    shapes = classifier_shapes(classifier_config(kind="mlp-tanh"), D)
    assert shapes == {
        "classifier.dense.weight": (D, D),
        "classifier.dense.bias": (D,),
        "classifier.out_proj.weight": (2, D),
        "classifier.out_proj.bias": (2,),
    }
