"""An image contains every number of its artifact, exactly where its tables say."""

from math import prod
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.adapters.artifacts import adapter_config, edit_header, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.artifact.parse import StoredArtifact, read_stored
from headmix_adapters.sites import TERMS, iter_terms
from headmix_server.core.runner import AdapterLoadError
from headmix_server.device.adapters.adapter_image import ALIGNMENT, AdapterImage, make_image
from headmix_server.kernels.adapters.image_tables import ABSENT, TERM_INDEX

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def stored(tensors: dict[str, Tensor], sites: int, pad: int = 0) -> StoredArtifact:
    file = pack(adapter_config(BASE, (*MIXED_SITES, MLP_SITES)[sites]), tensors)
    # a metadata entry of another length moves the data off the boundary that writers usually align it to
    return read_stored(bytearray(edit_header(file, lambda header: header["__metadata__"].update(note="x" * pad))))


def assert_holds(image: AdapterImage, artifact: StoredArtifact, tensors: dict[str, Tensor]) -> None:
    """Read every tensor back in two ways: through the tables, as kernels do, and through the views."""
    seen: set[int] = set()
    numel = 0
    for place in image.places:
        index, prefix = TERM_INDEX[place.key], place.config.prefix
        assert int(image.ranks[index]) == place.config.rank
        assert float(image.scales[index]) == place.config.scale
        views = {"A": image.A(place), "B": image.B(place), "bias": image.bias(place)}
        for layer in range(BASE.num_layers):
            for part, name in enumerate(("A", "B", "bias")):
                offset = int(image.offsets[layer, index, part])
                tensor = tensors.get(f"layers.{layer}.{prefix}.{name}")
                assert (offset == ABSENT) == (tensor is None)
                if tensor is None:
                    continue
                wanted = tensor.to(image.numbers.dtype)
                view = views[name]
                assert view is not None
                assert torch.equal(view[image.layers.index(layer)], wanted)
                rank_major = wanted.transpose(-1, -2) if name == "B" else wanted
                run = image.numbers[offset : offset + tensor.numel()]
                assert torch.equal(run, rank_major.flatten())
                assert offset % ALIGNMENT == 0
                assert not seen & set(range(offset, offset + tensor.numel()))
                seen |= set(range(offset, offset + tensor.numel()))
                numel += tensor.numel()
    assert numel == sum(prod(artifact.tensor(name).shape) for name in artifact.names())
    absent = set(range(len(TERMS))) - {TERM_INDEX[place.key] for place in image.places}
    assert all(image.ranks[index] == 0 for index in absent)


@given(
    sites=st.integers(0, len(MIXED_SITES)),
    layers=st.sets(st.integers(0, BASE.num_layers - 1), min_size=1),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=3),
    pad=st.integers(0, 9),
)
def test_every_tensor_is_found_again_exactly(sites: int, layers: set[int], dtypes: list[torch.dtype], pad: int) -> None:
    config = adapter_config(BASE, (*MIXED_SITES, MLP_SITES)[sites])
    drawn = random_tensors(config, 1, tuple(layers))
    tensors = {name: tensor.to(dtypes[at % len(dtypes)]) for at, (name, tensor) in enumerate(drawn.items())}
    artifact = stored(tensors, sites, pad)
    image = make_image(artifact)
    bf16 = {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert image.numbers.dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert set(image.layers) == layers
    assert_holds(image, artifact, tensors)


def test_a_classifier_without_sites_has_an_empty_image() -> None:
    config = adapter_config(BASE)
    bare = msgspec.structs.replace(config, sites=type(config.sites)())
    image = make_image(read_stored(bytearray(pack(bare, {"classifier.out_proj.bias": torch.ones(2)}))))
    assert (image.numbers.numel(), image.layers, image.places) == (0, (), ())


@pytest.mark.parametrize("fault", ["missing", "misshapen"])
def test_a_tensor_the_config_asks_for_and_the_file_has_not_is_an_error(fault: str) -> None:
    tensors = random_tensors(adapter_config(BASE, MIXED_SITES[0]))
    for layer in range(BASE.num_layers):
        name = f"layers.{layer}.o.shared.B"
        tensors[name] = tensors[name][:1]  # would broadcast
    if fault == "missing":
        del tensors["layers.1.o.shared.B"]
    with pytest.raises((KeyError, AdapterLoadError), match=r"o\.shared\.B"):
        make_image(stored(tensors, 0))


def test_terms_are_those_of_the_config_in_the_order_of_the_table(tmp_path: Path) -> None:
    image = make_image(stored(random_tensors(adapter_config(BASE, MIXED_SITES[0])), 0))
    assert [place.config for place in image.places] == list(iter_terms(MIXED_SITES[0]))
