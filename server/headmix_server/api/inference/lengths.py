"""How long prompts and completions may be."""

from headmix_server.core.errors import ContextLengthExceeded, InvalidRequest
from headmix_server.core.messages import EngineReady


def context_length(ready: EngineReady) -> int:
    """Return the most tokens a prompt and its completion may have together."""
    return min(ready.max_model_len, ready.kv_blocks * ready.block_size)


def check_length(prompt: int, max_tokens: int, limit: int, *, param: str) -> None:
    """Refuse an empty prompt, and one that leaves no room for the requested completion.

    Raises:
        InvalidRequest: there are no tokens.
        ContextLengthExceeded: there are too many.
    """
    if prompt == 0:
        raise InvalidRequest("The prompt is empty.", param=param)
    if prompt + max_tokens > limit:
        raise ContextLengthExceeded(
            f"This model's context length is {limit} tokens, but {prompt + max_tokens} were requested: "
            f"{prompt} in the prompt and {max_tokens} for the completion.",
            param=param,
        )
