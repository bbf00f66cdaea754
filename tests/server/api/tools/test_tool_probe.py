"""The live probe that other servers are tested with, against this one: an engine that says what a good model would."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from canitoolcall.probe import probe

from harness.bases.base_folder import write_base_folder
from harness.bases.tool_templates import HERMES
from harness.server.api_rig import BASE, TENANT, ApiRig, api_rig
from harness.server.fake_engine import READY, generated
from headmix_server.core.messages import Generate, Output, ToEngine

ROOMY = msgspec.structs.replace(READY, max_model_len=8192, kv_blocks=1024)
EVENT = (
    '{"title": "Design review", "start": "2026-10-01T15:00:00Z", "attendees": [{"name": "Ana", "email": '
    '"ana@example.com"}, {"name": "Bo", "email": "bo@example.com"}], "location": {"city": "Berlin", "room": "4.12"}}'
)
NOTE = '{"title": "Grüße aus Zürich", "body": "Café ☕ in 東京 — naïve résumé 🚀"}'


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


PARIS, TOKYO = call("get_weather", '{"city": "Paris"}'), call("get_weather", '{"city": "Tokyo"}')
THOUGHT = "<think>\n9.9 is larger.\n</think>\n\n"
REPLIES = {
    "<tool_response>": "18 degrees and clear.",
    "weather in Paris right now": PARIS,
    "about Lisbon": call("get_weather", '{"city": "Lisbon"}'),
    "in Paris and in Tokyo": f"{PARIS}\n{TOKYO}",
    "17 + 25": "42",
    "Create an event": call("create_event", EVENT),
    "Save a note": f"Saving.\n{call('save_note', NOTE)}",
    "What time is it": call("get_server_time", "{}"),
    "9.11 or 9.9": THOUGHT + call("record_answer", '{"answer": "9.9"}'),
}


def answer_like_a_model(rig: ApiRig) -> None:
    def said(message: ToEngine) -> Sequence[Output]:
        if not isinstance(message, Generate):
            return []
        prompt = rig.state.tokenizer.decode(message.prompt, skip_special_tokens=False)
        reply = next(text for words, text in REPLIES.items() if words in prompt)
        return generated(message, rig.encode(reply))

    rig.engine.answer = said


async def test_every_scenario_passes_streamed_and_not(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base", chat_template=HERMES)
    async with api_rig(folder, tmp_path / "data", ready=ROOMY) as rig:
        answer_like_a_model(rig)
        report = await asyncio.to_thread(probe, f"{rig.url}/v1", BASE, api_key=rig.keys[TENANT])
        assert report.summary() == {"pass": 27, "fail": 0, "error": 0, "skip": 0}, report.render_text()
        assert not [outcome.warnings for outcome in report.outcomes if outcome.warnings]
