"""The body of a new fine-tuning job as the request that its row keeps."""

import secrets

from headmix_adapters.presets import PresetName
from headmix_adapters.train.recipe.recipe import AdapterTable
from headmix_server.api.schemas.fine_tuning import (
    LARGEST_SEED,
    CanaryPublication,
    ExtensionBody,
    FineTuningRequest,
    RanksBody,
)
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidRequest
from headmix_server.core.settings.names import called
from headmix_server.fine_tuning.adapter_name import adapter_name
from headmix_server.fine_tuning.creation import find_data
from headmix_server.fine_tuning.request import FineTuning, Hyperparameters, Publication
from headmix_server.tenancy.keys.principal import Principal


def translate(state: ApiState, principal: Principal, body: FineTuningRequest) -> FineTuning:
    """Return the request; blocks, since it reads the files' rows.

    Raises:
        ModelNotFound, InvalidRequest: the model is not the base, a file is not one to train on, or a value cannot be.
    """
    _require_base(state, principal, body.model)
    extra = body.headmix or ExtensionBody()
    tenant, files, chosen = principal.tenant, state.files, body.chosen
    validation = body.validation_file
    return FineTuning(
        name=adapter_name(body.suffix, state.base.name),
        base=state.base.name,
        fingerprint=state.base.shape.fingerprint,
        training=find_data(files, tenant, body.training_file, param="training_file"),
        validation=None if validation is None else find_data(files, tenant, validation, param="validation_file"),
        hyperparameters=Hyperparameters(
            n_epochs=chosen.n_epochs,
            batch_size=chosen.batch_size,
            learning_rate_multiplier=chosen.learning_rate_multiplier,
        ),
        seed=secrets.randbelow(LARGEST_SEED + 1) if body.seed is None else body.seed,
        suffix=body.suffix,
        metadata=body.metadata,
        adapter=_adapter(extra),
        task=extra.task,
        labels=_labels(state, extra),
        problem=extra.problem,
        ignore=tuple(extra.ignore),
        max_length=extra.max_length,
        publish=_publication(extra.publish),
        actor=principal.actor,
    )


def _require_base(state: ApiState, principal: Principal, model: str) -> None:
    if model == state.base.name:
        return
    state.library.catalog.resolve(principal.tenant, model)
    raise InvalidRequest(
        f"Training starts from the base, {state.base.name!r}: continuing an adapter is not supported.", param="model"
    )


def _labels(state: ApiState, extra: ExtensionBody) -> tuple[str, ...]:
    labels, most = tuple(extra.labels or ()), state.settings.max_labels
    if len(labels) > most:
        message = f"headmix.labels has {len(labels)} labels, and an adapter may have {most} ({called('max_labels')})."
        raise InvalidRequest(message, param="headmix.labels")
    return labels


def _adapter(extra: ExtensionBody) -> AdapterTable | None:
    """Return the adapter that is asked for; None leaves it to the task."""
    ranks, preset = extra.ranks, extra.preset
    if isinstance(ranks, int):
        return AdapterTable(method="lora", rank=ranks, sites=tuple(extra.sites or ()))
    if ranks is None:
        return None if preset is None else AdapterTable(preset=preset)
    return _kernel_mix(ranks, preset)


def _kernel_mix(ranks: RanksBody, preset: PresetName | None) -> AdapterTable:
    try:
        return AdapterTable(
            preset=preset, rank_q=ranks.q, rank_v=ranks.v, rank_q_shared=ranks.q_shared, rank_v_shared=ranks.v_shared
        )
    except ValueError as error:
        raise InvalidRequest(f"headmix.ranks: {error}.", param="headmix.ranks") from error


def _publication(publish: str | CanaryPublication) -> Publication:
    if isinstance(publish, CanaryPublication):
        return Publication(how="canary", percent=publish.canary)
    return Publication(how="beside" if publish == "beside" else "current")
