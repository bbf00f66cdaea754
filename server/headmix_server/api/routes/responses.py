"""POST /v1/responses."""

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import State
from headmix_server.api.inference.chats.response_chat import as_chat, names_of_responses
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.responses.response import ResponseAnswer
from headmix_server.api.responses.sse import STREAMED, open_stream
from headmix_server.api.responses.whole_response import WholeResponse
from headmix_server.api.routes.chat import chat_work
from headmix_server.api.schemas.responses import ResponseObject, ResponsesRequest

router = APIRouter(tags=["generation"], route_class=GuardedRoute)


@router.post("/v1/responses", responses=STREAMED, response_model=ResponseObject)
async def create_response(request: Request, body: ResponsesRequest, admission: Admitted, state: State) -> Response:
    """Answer a conversation; `stream` sends typed events. Nothing is stored."""
    with names_of_responses():
        work = await chat_work(request, as_chat(body), admission, state)
    answer = ResponseAnswer(work.job, body, work.writers)
    if body.stream:
        return await open_stream(request, answer.events(), ending=answer.ending)
    return WholeResponse(await until_disconnected(request, answer.whole()))
