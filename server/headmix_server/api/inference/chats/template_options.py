"""What a chat body says about its prompt's end and the template's variables, as the template takes it."""

from headmix_adapters.text.chat_template import ChatTemplate, TemplateOptions
from headmix_server.api.inference.prompts import Vocabulary
from headmix_server.api.schemas.body import encodable, shown
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.core.errors import InvalidRequest, UnsupportedParameter
from headmix_server.text.adapter_template import AdapterTemplate


async def template_options(
    body: ChatRequest, template: ChatTemplate | AdapterTemplate, vocabulary: Vocabulary
) -> TemplateOptions:
    """Return how the body wants its conversation rendered.

    Null and false for a variable that the template doesn't read ask for nothing: clients send them to every model.

    Raises:
        InvalidRequest: the prompt cannot both continue the last message and begin a new one.
        UnsupportedParameter: the template reads no variable of that name, or has its value from elsewhere.
    """
    goes_on = bool(body.continue_final_message)
    if goes_on and body.add_generation_prompt:
        raise InvalidRequest(
            "continue_final_message and add_generation_prompt cannot both be true.", param="continue_final_message"
        )
    begins = not goes_on if body.add_generation_prompt is None else body.add_generation_prompt
    asked = body.chat_template_kwargs or {}
    facts = await vocabulary.facts_of(template, "chat_template_kwargs") if asked else None
    variables = {}
    for name, value in asked.items():
        if facts is not None and name in facts.variables:
            variables[name] = value
        elif (facts is not None and name in facts.fixed) or not (value is None or value is False):
            raise UnsupportedParameter(
                f"The chat template takes no variable {shown(name)} from a request.",
                param=f"chat_template_kwargs.{encodable(name[:64])}",
            )
    return TemplateOptions(add_generation_prompt=begins, continue_final_message=goes_on, variables=variables)
