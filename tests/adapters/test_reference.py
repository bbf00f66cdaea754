"""The reference matches DESIGN's formulas: checked against loops written from them, and against the dense LoRA form."""

import pytest
import torch
from torch import Tensor

from harness.adapters.artifacts import classifier_config, tiny_base_shape
from headmix_adapters import reference
from headmix_adapters.config import HeadBase, HeadPart, Problem, SharedPart, SiteConfig, Sites
from headmix_adapters.sites import TermConfig, iter_terms, symbol_sizes, term_shapes

# Grouped-query attention, and a head size other than hidden size / heads.
BASE = tiny_base_shape(hidden_size=20, num_heads=6, num_kv_heads=2, head_dim=4, intermediate_size=14)
D, H, G, P, INNER, R = 20, 6, 2, 4, 14, 3
HEAD_TERMS: list[tuple[str, HeadBase]] = [("q", "x"), ("v", "k"), ("v", "x"), ("o", "a")]
TOKENS = 5


def term_of(site: str, base: HeadBase | None, *, scale: float = 1.0, bias: bool = True) -> TermConfig:
    head = None if base is None else HeadPart(rank=R, base=base, scale=scale, bias=bias)
    shared = SharedPart(rank=R, scale=scale) if base is None else None
    (term,) = iter_terms(Sites(**{site: SiteConfig(head=head, shared=shared)}))
    return term


def random_term(term: TermConfig, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = term_shapes(term, BASE)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def random_inputs(term: TermConfig, *batch: int) -> Tensor:
    width = {"x": D, "k": G * P, "a": H * P, "m": D, "i": INNER}[term.term.input]
    return torch.randn(*batch, width, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def delta(term: TermConfig, inputs: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    return reference.term_delta(term, inputs, tensors["A"], tensors["B"], tensors.get("bias"))


def head_loop(site: str, base: HeadBase, token: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """DESIGN section 2, one head at a time, one token."""
    A, B, bias = tensors["A"], tensors["B"], tensors["bias"]
    heads = A.shape[0]
    per_head = []
    for h in range(heads):
        read = token if base == "x" else token[h * P : (h + 1) * P]
        per_head.append(B[h] @ (A[h] @ read))
    if site == "o":
        total = bias.clone()
        for vector in per_head:
            total = total + vector
        return total
    return torch.cat([per_head[h] + bias[h] for h in range(heads)])


@pytest.mark.parametrize(("site", "base"), HEAD_TERMS)
def test_a_head_part_is_the_designs_formula_head_by_head(site: str, base: HeadBase) -> None:
    term = term_of(site, base)
    tensors, inputs = random_term(term), random_inputs(term, TOKENS)
    expected = torch.stack([head_loop(site, base, token, tensors) for token in inputs])
    torch.testing.assert_close(delta(term, inputs, tensors), expected)


@pytest.mark.parametrize("site", ["q", "k", "v", "o", "gate_up", "down"])
def test_a_shared_part_is_b_a_x(site: str) -> None:
    term = term_of(site, None)
    tensors, inputs = random_term(term), random_inputs(term, TOKENS)
    expected = torch.stack([tensors["B"] @ (tensors["A"] @ token) for token in inputs])
    torch.testing.assert_close(delta(term, inputs, tensors), expected)


@pytest.mark.parametrize(("site", "base"), HEAD_TERMS)
def test_the_scale_multiplies_the_bias_too(site: str, base: HeadBase) -> None:
    plain, scaled = term_of(site, base), term_of(site, base, scale=-2.5)
    tensors, inputs = random_term(plain), random_inputs(plain, TOKENS)
    torch.testing.assert_close(delta(scaled, inputs, tensors), -2.5 * delta(plain, inputs, tensors))


@pytest.mark.parametrize(("site", "base"), [*HEAD_TERMS, ("k", None)])
def test_leading_dimensions_are_a_batch(site: str, base: HeadBase | None) -> None:
    term = term_of(site, base)
    tensors, inputs = random_term(term), random_inputs(term, 2, TOKENS)
    torch.testing.assert_close(delta(term, inputs, tensors)[1], delta(term, inputs[1], tensors))


@pytest.mark.parametrize(("site", "base"), HEAD_TERMS)
def test_without_a_bias_nothing_is_added(site: str, base: HeadBase) -> None:
    term = term_of(site, base, bias=False)
    tensors = random_term(term)
    assert tensors.keys() == {"A", "B"}
    assert not delta(term, torch.zeros_like(random_inputs(term, TOKENS)), tensors).any()


def block_diagonal(blocks: Tensor) -> Tensor:
    """[n, rows, columns] -> [n * rows, n * columns], zero off the diagonal."""
    count, rows, columns = blocks.shape
    dense = torch.zeros(count, rows, count, columns, dtype=blocks.dtype)
    for index in range(count):
        dense[index, :, index] = blocks[index]
    return dense.view(count * rows, count * columns)


def test_dense_query_is_lora_with_bias() -> None:
    """A' = [A^1; ..; A^H; A_s], B' = [blockdiag(B^h) | B_s], bias b."""
    head, shared = term_of("q", "x"), term_of("q", None)
    own, common, x = random_term(head), random_term(shared, 1), random_inputs(head, TOKENS)
    down = torch.cat([*own["A"], common["A"]])
    up = torch.cat([block_diagonal(own["B"]), common["B"]], dim=1)
    assert down.shape == (H * R + R, D)
    dense = x @ down.T @ up.T + own["bias"].flatten()
    torch.testing.assert_close(delta(head, x, own) + delta(shared, x, common), dense)


def test_dense_value_reads_the_input_through_the_frozen_key_projection() -> None:
    """A' = [A^g W_k^g; ..; A_s], bias b^g + B^g A^g b_k^g: the key's own bias passes through the term."""
    head, shared = term_of("v", "k"), term_of("v", None)
    own, common, x = random_term(head), random_term(shared, 1), random_inputs(shared, TOKENS)
    generator = torch.Generator().manual_seed(3)
    key_weight = torch.randn(G * P, D, generator=generator, dtype=torch.float64)
    key_bias = torch.randn(G * P, generator=generator, dtype=torch.float64)
    key = x @ key_weight.T + key_bias
    down = torch.cat([*(own["A"][g] @ key_weight.view(G, P, D)[g] for g in range(G)), common["A"]])
    up = torch.cat([block_diagonal(own["B"]), common["B"]], dim=1)
    bias = torch.cat([own["bias"][g] + own["B"][g] @ own["A"][g] @ key_bias.view(G, P)[g] for g in range(G)])
    dense = x @ down.T @ up.T + bias
    torch.testing.assert_close(delta(head, key, own) + delta(shared, x, common), dense)


def test_dense_output_is_lora_with_bias() -> None:
    """A' = [blockdiag(A^h); A_s], B' = [B^1 .. B^H | B_s], bias b."""
    head, shared = term_of("o", "a"), term_of("o", None)
    own, common, attention = random_term(head), random_term(shared, 1), random_inputs(head, TOKENS)
    down = torch.cat([block_diagonal(own["A"]), common["A"]])
    up = torch.cat([*own["B"], common["B"]], dim=1)
    assert (down.shape, up.shape) == ((H * R + R, H * P), (D, H * R + R))
    dense = attention @ down.T @ up.T + own["bias"]
    torch.testing.assert_close(delta(head, attention, own) + delta(shared, attention, common), dense)


def test_gradients_reach_every_tensor_of_a_term() -> None:
    for site, base in HEAD_TERMS:
        term = term_of(site, base)
        tensors = {name: tensor.requires_grad_() for name, tensor in random_term(term).items()}
        loss = delta(term, random_inputs(term, TOKENS), tensors).square().sum()
        assert all(gradient.any() for gradient in torch.autograd.grad(loss, list(tensors.values())))


def test_a_head_reads_and_writes_only_itself() -> None:
    term = term_of("v", "k")
    tensors, inputs = random_term(term), random_inputs(term, 1)
    changed = inputs.clone()
    changed[0, P:] += 1
    first, second = delta(term, inputs, tensors), delta(term, changed, tensors)
    assert torch.equal(first[0, :P], second[0, :P])
    assert not torch.isclose(first[0, P:], second[0, P:]).any()


def test_a_term_the_method_does_not_define_is_an_error() -> None:
    term = term_of("v", "x")
    wrong = TermConfig(term.term.__class__("k", "head", "x", ("r",), ("r",), None), R, 1.0, has_bias=False)
    with pytest.raises(ValueError, match=r"no such term: k\.head on x"):
        reference.term_delta(wrong, torch.zeros(1, D), torch.zeros(1, R, D), torch.zeros(1, P, R), None)


@pytest.mark.parametrize(("pooling", "expected"), [("last", [5.0, 6.0]), ("cls", [1.0, 2.0]), ("mean", [3.0, 4.0])])
def test_pooling_takes_the_state_it_names(pooling: str, expected: list[float]) -> None:
    states = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert reference.pool(states, pooling).tolist() == expected


def test_the_mlp_head_is_dense_tanh_projection() -> None:
    generator = torch.Generator().manual_seed(0)
    names = {"dense.weight": (D, D), "dense.bias": (D,), "out_proj.weight": (2, D), "out_proj.bias": (2,)}
    tensors = {f"classifier.{name}": torch.randn(shape, generator=generator) for name, shape in names.items()}
    state = torch.randn(D, generator=generator)
    dense, out = (torch.nn.Linear(D, D), torch.nn.Linear(D, 2))
    dense.load_state_dict({"weight": tensors["classifier.dense.weight"], "bias": tensors["classifier.dense.bias"]})
    out.load_state_dict({"weight": tensors["classifier.out_proj.weight"], "bias": tensors["classifier.out_proj.bias"]})
    torch.testing.assert_close(
        reference.classify(classifier_config(kind="mlp-tanh"), state, tensors), out(torch.tanh(dense(state)))
    )
    torch.testing.assert_close(reference.classify(classifier_config(), state, tensors), out(state))


@pytest.mark.parametrize(
    ("problem", "expected"),
    [("single_label", [0.5, 0.5]), ("multi_label", [0.5, 0.5]), ("regression", [0.0, 0.0])],
)
def test_scores_become_what_the_problem_asks_for(problem: Problem, expected: list[float]) -> None:
    config = classifier_config(problem=problem)
    assert reference.label_probabilities(config, torch.zeros(2)).tolist() == expected


def test_the_symbols_of_the_table_are_this_bases_sizes() -> None:
    sizes = {"D": D, "H": H, "G": G, "P": P, "HP": H * P, "GP": G * P, "I": INNER, "U": 2 * INNER, "r": R}
    assert symbol_sizes(BASE, R) == sizes
