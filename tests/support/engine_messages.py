"""What tests of the engine's client send and receive."""

from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.core.types import AdapterRef, FinishReason, SamplingParams
from headmix_server.engine_client.client import EngineClient

REF = AdapterRef(digest="sha256:" + "0" * 64, base="b", path="p", name="n", version=1, tenant="t")


def request(request_id: str = "r") -> Generate:
    return Generate(request_id=request_id, tenant="t", prompt=[1], adapter=None, sampling=SamplingParams(max_tokens=4))


def token(number: int, reason: FinishReason | None = None, request_id: str = "r") -> TokenOutput:
    return TokenOutput(request_id=request_id, tokens=[number], finish_reason=reason)


async def collect(client: EngineClient, message: Generate) -> list[int]:
    return [number async for output in client.generate(message) for number in output.tokens]
