"""Attaches an adapter's trainable terms to a transformers model, and detaches them again.

Owns which module holds which artifact tensor. The base is frozen while attached, and `detach` restores it exactly:
its modules, and which of its parameters required gradients.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headmix_adapters.config import AdapterConfig
from headmix_adapters.inject.backbone import output_head_of, replace_output_head
from headmix_adapters.inject.blocks import Block, find_blocks
from headmix_adapters.inject.classifier_head import ClassifierHead
from headmix_adapters.inject.errors import AttachError
from headmix_adapters.inject.initial import first_values, folded_normal
from headmix_adapters.inject.projection import AdaptedProjection, RawKey, TermModule
from headmix_adapters.inject.vocabulary import AddedRows, ExtendedEmbedding, ExtendedHead
from headmix_adapters.sites import TermConfig, classifier_shapes, iter_terms, term_shapes


class AttachedAdapter:
    """An adapter attached to a model: its parameters by artifact tensor name, and the way to detach it."""

    def __init__(
        self,
        config: AdapterConfig,
        layers: tuple[int, ...],
        named: Mapping[str, nn.Parameter],
        head: ClassifierHead | None,
        undo: Sequence[Callable[[], None]],
    ) -> None:
        self.config = config
        self.layers = layers
        self.head = head
        self._named = dict(named)
        self._undo = list(undo)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every trainable tensor of the adapter, and none of the base."""
        yield from self._named.values()

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the tensors under their artifact names, ready for `write_artifact`."""
        return {name: parameter.detach().clone() for name, parameter in self._named.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the adapter's tensors.

        Raises:
            AttachError: a tensor is missing, unknown, or of another shape; nothing is changed in that case.
        """
        if odd := sorted(self._named.keys() ^ tensors.keys()):
            raise AttachError(f"missing or unknown tensors: {', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''}")
        for name, parameter in self._named.items():
            if tensors[name].shape != parameter.shape:
                raise AttachError(f"{name}: shape {tuple(tensors[name].shape)}, expected {tuple(parameter.shape)}")
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(tensors[name])

    def detach(self) -> None:
        """Restore the model as it was before `attach`; the tensors stay readable. A second call does nothing."""
        while self._undo:
            self._undo.pop()()


def attach(
    model: PreTrainedModel,
    config: AdapterConfig,
    layers: Sequence[int] | None = None,
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> AttachedAdapter:
    """Freeze the model and add a newly initialised adapter to it.

    `layers` are the layers to adapt (default: all), `dropout` acts on each term's input in training, `seed` fixes the
    initial values. A model takes one adapter at a time.

    Raises:
        AttachError: the model's family is unknown, its dimensions differ, or it already has an adapter.
    """
    blocks = find_blocks(model, config.base, config.sites.present())
    chosen = tuple(range(config.base.num_layers)) if layers is None else tuple(sorted(set(layers)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= config.base.num_layers:
        raise AttachError(f"layers {list(chosen)} are not a choice of the base's {config.base.num_layers}")
    builder = _Builder(model, config, dropout, torch.Generator().manual_seed(seed))
    builder.freeze()
    for layer in chosen:
        builder.adapt_layer(blocks[layer])
    if config.added_tokens:
        builder.add_tokens()
    head = builder.classifier_head()
    return AttachedAdapter(config, chosen, builder.named, head, builder.undo)


class _Builder:
    """Collects parameters and undo steps while `attach` walks the model."""

    def __init__(
        self, model: PreTrainedModel, config: AdapterConfig, dropout: float, generator: torch.Generator
    ) -> None:
        self.model = model
        self.config = config
        self.dropout = dropout
        self.generator = generator
        self.named: dict[str, nn.Parameter] = {}
        self.undo: list[Callable[[], None]] = []

    def freeze(self) -> None:
        wanted = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.model.requires_grad_(False)

        def thaw() -> None:
            for parameter in wanted:
                parameter.requires_grad_(True)

        self.undo.append(thaw)

    def adapt_layer(self, block: Block) -> None:
        # Taken before any site is wrapped: the value's base k is the base's own key, even if site k is adapted.
        raw_key = RawKey(*block.raw_key())
        by_site: dict[str, list[TermModule]] = {}
        for term in iter_terms(self.config.sites):
            by_site.setdefault(term.term.site, []).append(self._term(term, block.layer))
        for place in block.places:
            terms = [by_site.get(part.site, []) for part in place.slices]
            if any(terms):
                original = place.module
                place.replace(AdaptedProjection(original, place.slices, terms, raw_key))
                self.undo.append(partial(place.replace, original))

    def _term(self, term: TermConfig, layer: int) -> TermModule:
        shapes = term_shapes(term, self.config.base)
        tensors = {
            name: first_values(self.config.method, term, name, shape, self.generator).to(self.model.device)
            for name, shape in shapes.items()
        }
        module = TermModule(term, tensors, self.dropout)
        module.train(self.model.training)
        prefix = f"layers.{layer}.{term.prefix}"
        self.named |= {f"{prefix}.{name}": parameter for name, parameter in module.named_parameters()}
        return module

    def add_tokens(self) -> None:
        embedding = self.model.get_input_embeddings()
        if not isinstance(embedding, nn.Embedding):
            raise AttachError(f"the input embedding is a {type(embedding).__name__}; added tokens need a plain table")
        noise = folded_normal((len(self.config.added_tokens), embedding.embedding_dim), self.generator)
        centre = embedding.weight.detach().float().mean(dim=0)
        added = AddedRows(centre + noise.to(centre.device))
        self.named["added_tokens.embedding"] = added.rows
        self.model.set_input_embeddings(ExtendedEmbedding(embedding, added))
        self.undo.append(lambda: self.model.set_input_embeddings(embedding))
        if self.config.task == "generation" and self.model.config.tie_word_embeddings:
            head = output_head_of(self.model)
            replace_output_head(self.model, ExtendedHead(head, added))
            self.undo.append(lambda: replace_output_head(self.model, head))

    def classifier_head(self) -> ClassifierHead | None:
        classifier = self.config.classifier
        if classifier is None:
            return None
        shapes = classifier_shapes(classifier, self.config.base.hidden_size)
        device = self.model.device
        tensors = {name: folded_normal(shape, self.generator).to(device) for name, shape in shapes.items()}
        head = ClassifierHead(classifier, tensors)
        self.named |= head.tensors()
        return head
