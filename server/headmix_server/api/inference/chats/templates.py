"""Which chat template a model's conversations are rendered with: its adapter's own, or else the base's."""

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.api.inference.resolve import Model
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidRequest
from headmix_server.text.adapter_template import AdapterTemplate


def template_of(
    state: ApiState, model: Model, *, instead: str = "use /v1/completions"
) -> ChatTemplate | AdapterTemplate:
    """Return the model's chat template; `instead` is what a client may do without one.

    Raises:
        InvalidRequest: neither the adapter nor the base has one.
    """
    if model.version is not None and (own := model.version.config.chat_template):
        return AdapterTemplate(own)
    if state.chat_template is None:
        raise InvalidRequest(f"The base of this server has no chat template: {instead}.", param="messages")
    return state.chat_template


def owner_of(template: ChatTemplate | AdapterTemplate) -> str:
    """Return whose template it is: `adapter` or `base`."""
    return "adapter" if isinstance(template, AdapterTemplate) else "base"


def whose(state: ApiState, model: Model, template: ChatTemplate | AdapterTemplate) -> str:
    """Return whose template it is, by name."""
    return f"the {owner_of(template)} {(model if isinstance(template, AdapterTemplate) else state.base).name!r}"
