"""Why the engine cannot serve a request, from what the request asks for alone. Knows neither queue nor adapters."""

from math import inf

from headmix_server.core.messages import Failed, Request
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.sequence import generates, grammar_of, most_outputs, params_of


def refusal(message: Request, limits: EngineConfig, *, most_tokens: int, enforces_grammars: bool) -> Failed | None:
    """Return the error for a request that cannot be served, or None.

    `most_tokens` is what the cache holds; `enforces_grammars`: whether the engine has a compiler for them.
    """
    params = params_of(message)
    outputs = most_outputs(params)
    length = len(message.prompt) + outputs
    limit = min(limits.longest, most_tokens)
    code = text = ""
    if not message.prompt:
        code, text = "invalid_request_error", "the prompt is empty"
    elif generates(params) and limits.whole_prompts:
        code, text = "task_mismatch", "the base reads whole texts: it classifies and embeds, and does not generate"
    elif generates(params) and outputs < 1:
        code, text = "invalid_request_error", "max_tokens must be at least 1"
    elif grammar_of(params) is not None and not enforces_grammars:
        code, text = "invalid_request_error", "this server cannot enforce a grammar"
    elif length > limit:
        code, text = "context_length_exceeded", f"{length} tokens were requested; the limit is {limit}"
    elif message.adapter is None and (message.beside or message.scale != 1):
        code, text = "internal_error", "a scale, or adapters beside none"
    elif message.beside and len(message.beside) >= limits.adapter_slots:
        slots = limits.adapter_slots
        code, text = "invalid_request_error", f"{1 + len(message.beside)} adapters for {slots} adapter slots"
    elif not 0 < message.weight < inf:
        code, text = "internal_error", "the tenant's weight is not a positive number"
    return Failed(request_id=message.request_id, code=code, message=text) if code else None
