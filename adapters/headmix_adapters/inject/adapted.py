"""Models that `transformers.Trainer` can train: the frozen base with an attached adapter, saved as the adapter alone.

`AdaptedModel` is what both tasks share; `LanguageModel` is for generation, `classifier.ClassifierModel` for
classification.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from headmix_adapters.inject.attach import AttachedAdapter
from headmix_adapters.inject.backbone import backbone_of, vocabulary_scores
from headmix_adapters.inject.split import SplitBackbone

IGNORED = -100
"""The label of tokens that are not learned, as elsewhere in transformers."""


class LoadResult(NamedTuple):
    """What `load_state_dict` reports; loading an adapter is all or nothing, so both stay empty."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class AdaptedModel(nn.Module):
    """A base and its attached adapter as one module whose state is the adapter's tensors only.

    So a Trainer's checkpoints take megabytes and do not include the base. Detach with `adapter.detach()`.
    """

    def __init__(self, model: PreTrainedModel, adapter: AttachedAdapter) -> None:
        super().__init__()
        self.model = model
        self.head = adapter.head
        self.adapter = adapter
        self._split: tuple[SplitBackbone] | None = None

    # torch's overloads return the `destination` passed in; this state is never merged into another module's.
    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:  # type: ignore[override]  # torch overloads it
        """Return the adapter's tensors by artifact name."""
        return self.adapter.tensors()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> LoadResult:
        """Load an adapter's tensors: always all of them, always by copying, regardless of `strict` and `assign`."""
        self.adapter.load(state_dict)
        return LoadResult([], [])

    def use_split(self, split: SplitBackbone) -> None:
        """Accept `prefix_states` computed by `split.lower` in place of token ids."""
        self._split = (split,)

    def hidden_states(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        prefix_states: Tensor | None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the states after the final norm, [texts, tokens, D].

        `prefix_states` are the states that enter the lowest adapted layer; they replace `input_ids`. Without a mask,
        `position_ids` that begin again divide a row into texts that don't see each other.
        """
        more = {} if position_ids is None else {"position_ids": position_ids}
        if prefix_states is None:
            backbone = backbone_of(self.model)
            output = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **more)
        elif self._split is None:
            raise ValueError("prefix_states need use_split() first")
        else:
            upper = self._split[0].upper
            output = upper(inputs_embeds=prefix_states, attention_mask=attention_mask, use_cache=False, **more)
        return cast("Tensor", output.last_hidden_state)


class LanguageModel(AdaptedModel):
    """A generator: returns the loss of the supervised tokens if given labels, else the model's own output."""

    # Makes Trainer pass num_items_in_batch, so that accumulation weights tokens equally, not micro-batches.
    accepts_loss_kwargs = True

    def __init__(self, model: PreTrainedModel, adapter: AttachedAdapter, *, label_smoothing: float = 0.0) -> None:
        super().__init__(model, adapter)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        prefix_states: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        position_ids: Tensor | None = None,
        **options: object,
    ) -> CausalLMOutputWithPast:
        """Return logits (no labels), or the mean negative log-likelihood of the tokens whose label is not -100.

        With labels, only the supervised positions go through the output head (the vocabulary is most of a small
        model's work), and `logits` are those rows, [supervised tokens, vocabulary]. Label smoothing only applies in
        training. With `position_ids` that begin again, a row has several texts, and the mask is not used.
        """
        if labels is None:
            if position_ids is not None:
                options["position_ids"] = position_ids
            return cast(
                "CausalLMOutputWithPast", self.model(input_ids=input_ids, attention_mask=attention_mask, **options)
            )
        mask = torch.ones_like(labels) if attention_mask is None else attention_mask
        states = self.hidden_states(input_ids, mask if position_ids is None else None, prefix_states, position_ids)
        supervised = labels[:, 1:] != IGNORED
        targets = labels[:, 1:][supervised]
        logits = vocabulary_scores(self.model, states[:, :-1][supervised])
        smoothing = self.label_smoothing if self.training else 0.0
        total = nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
        loss = total / (targets.numel() if num_items_in_batch is None else num_items_in_batch)
        return CausalLMOutputWithPast(loss=cast("torch.FloatTensor", loss), logits=cast("torch.FloatTensor", logits))

    def generate(self, *args: object, **options: object) -> Tensor:
        """Generate with the model's own `generate` and the adapter attached: token ids [texts, prompt + new]."""
        generate = cast("Callable[..., Tensor]", self.model.generate)
        return generate(*args, **options)
