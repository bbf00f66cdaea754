import json
from pathlib import Path

import pytest
from jinja2 import Environment
from transformers import PreTrainedTokenizerFast

from harness.bases.base_folder import CHATML, write_base_folder
from harness.bases.tool_templates import HERMES, LLAMA, MISTRAL, MISTRAL_COMPACT
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError, load_chat_template, template_fault
from headmix_adapters.text.template_variables import variables_read
from headmix_server.text.tokenizer import load_tokenizer

LLAMA_LIKE = """
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate.') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system + '\n\n' if loop.first and system else '') + message['content'] | trim + ' [/INST]' }}
    {%- else %}
        {%- generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
"""

LOOP_CONTROLS = """
{% for message in messages %}
    {% if message.role == 'system' %}
        {% continue %}
    {% endif %}
    {{ message.role | upper }}: {{ message.content }} {{ message | tojson }}
    {% if loop.index == 3 %}{% break %}{% endif %}
{% endfor %}
{% set ns = namespace(count=0) %}{% for m in messages %}{% set ns.count = ns.count + 1 %}{% endfor %}
{{ ns.count }} {{ strftime_now('%Y') | length }} {% if tools is none %}no tools{% endif %}
{% if add_generation_prompt %}ASSISTANT:{% endif %}
"""

CONVERSATIONS = [
    [{"role": "user", "content": "Hi <b>there</b> & é"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Why?"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three", "name": None},
    ],
]


@pytest.mark.parametrize("template", [CHATML, LLAMA_LIKE, LOOP_CONTROLS], ids=["chatml", "llama", "loop-controls"])
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["user", "system", "turns"])
@pytest.mark.parametrize("prompt", [True, False])
def test_templates_render_as_in_transformers(
    tmp_path: Path, template: str, messages: list[dict[str, str]], prompt: bool
) -> None:
    folder = write_base_folder(tmp_path, chat_template=template)
    loaded = load_chat_template(folder, load_tokenizer(folder).special_tokens)
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    expected = oracle.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert loaded is not None
    assert loaded.render(messages, add_generation_prompt=prompt) == expected


THINKING = """
{%- if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}
{%- for message in messages %}
    {{- '<' + message.role + '>' }}
    {%- if message.reasoning_content %}{{ '<think>' + message.reasoning_content + '</think>' }}{% endif %}
    {{- message.content | trim + '</s>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' + ('' if enable_thinking else '<think></think>') }}{% endif %}
"""
CONTINUED = ["Once upon", "Once upon ", " a", "", "\n", "You are helpful", "</s>", "<think>a</think> b"]


@pytest.mark.parametrize("template", [CHATML, LLAMA_LIKE, THINKING], ids=["chatml", "llama", "thinking"])
@pytest.mark.parametrize("content", CONTINUED)
def test_a_message_is_continued_as_in_transformers(tmp_path: Path, template: str, content: str) -> None:
    folder = write_base_folder(tmp_path, chat_template=template)
    loaded = load_chat_template(folder, load_tokenizer(folder).special_tokens)
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    messages = [{"role": "user", "content": "You are helpful. a"}, {"role": "assistant", "content": content}]
    expected = oracle.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    assert loaded is not None
    assert loaded.render(messages, add_generation_prompt=False, continue_final_message=True) == expected
    assert messages[-1]["content"] == content


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}])
def test_reasoning_and_variables_reach_the_template_as_in_transformers(
    tmp_path: Path, name: str, variables: dict[str, bool]
) -> None:
    folder = write_base_folder(tmp_path, chat_template=THINKING)
    loaded = load_chat_template(folder, load_tokenizer(folder).special_tokens)
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", name: "hm"}]
    expected = oracle.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables)
    assert loaded is not None
    assert loaded.render(messages, variables=variables) == expected
    assert loaded.variables == {"enable_thinking"}


@pytest.mark.parametrize(
    ("template", "last"),
    [
        ("{{ messages[0].content }}", {"role": "assistant", "content": "x"}),
        ("{{ messages[-1].content | replace('x', 'y') }}", {"role": "assistant", "content": "x"}),
        (CHATML, {"role": "assistant", "content": None}),
        (CHATML, {"role": "assistant", "content": "x", "tool_calls": [{}]}),
    ],
)
def test_what_cannot_be_continued_is_refused(template: str, last: dict[str, object]) -> None:
    with pytest.raises(ChatTemplateError, match="final message"):
        ChatTemplate(template, {}).render([{"role": "user", "content": "a"}, last], continue_final_message=True)


def test_variables_never_take_the_place_of_what_the_server_sets() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ x }}", {"bos_token": "<s>"})
    variables = {"bos_token": "<x>", "messages": [{"content": "no"}], "x": 1, "raise_exception": 2}
    assert template.render([{"role": "user", "content": "Hi"}], variables=variables) == "<s>Hi1"
    assert template.variables == {"x"}


def test_finding_a_templates_variables_evaluates_nothing_of_it() -> None:
    huge = "{{ x if false else ('a' * 10 ** 12) | length }}{{ 'a' * 10 ** 12 }}{{ [1] * 10 ** 12 }}"
    assert variables_read(Environment(), "{% if false %}" + huge + "{% endif %}") == {"x"}
    assert ChatTemplate("{% raw %}{{ 'a' }}{% endraw %}{{ z }}", {}).variables == {"z"}


def test_a_templates_refusal_is_reported() -> None:
    template = ChatTemplate(LLAMA_LIKE, {"bos_token": "<s>", "eos_token": "</s>"})
    with pytest.raises(ChatTemplateError, match="Roles must alternate"):
        template.render([{"role": "assistant", "content": "Hm"}])


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}", "{{ 1 / 0 }}"]
)
def test_a_template_reaches_nothing_outside_its_sandbox(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])


def test_a_broken_template_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ChatTemplateError, match="not valid"):
        ChatTemplate("{% for %}", {})


@pytest.mark.parametrize(
    "declared", ["T {{ messages[0].content }}", [{"name": "default", "template": "T {{ messages[0].content }}"}]]
)
def test_older_folders_keep_the_template_in_the_tokenizer_config(tmp_path: Path, declared: object) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": declared}), encoding="utf-8")
    template = load_chat_template(tmp_path, {})
    assert template is not None
    assert template.render([{"role": "user", "content": "x"}]) == "T x"


def test_a_base_without_a_template_has_none(tmp_path: Path) -> None:
    assert load_chat_template(write_base_folder(tmp_path, chat_template=None), {}) is None


def test_openais_developer_is_the_templates_system_and_the_callers_messages_stay_as_they_are() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", {})
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hm"}]
    assert template.render(messages) == "system:be brief;user:hm;"
    assert messages[0]["role"] == "developer"


TOOL: dict[str, object] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL: dict[str, object] = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Zürich"}},
}
CALLED: list[dict[str, object]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "18"},
    {"role": "user", "content": "And?"},
]
TOOL_TEMPLATES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL, "mistral-compact": MISTRAL_COMPACT}


@pytest.mark.parametrize("template", TOOL_TEMPLATES.values(), ids=TOOL_TEMPLATES.keys())
def test_tools_calls_and_results_render_as_in_transformers(tmp_path: Path, template: str) -> None:
    folder = write_base_folder(tmp_path, chat_template=template)
    loaded = load_chat_template(folder, load_tokenizer(folder).special_tokens)
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    assert loaded is not None
    assert loaded.takes_tools
    for messages in (CALLED[:1], CALLED):
        expected = oracle.apply_chat_template(messages, tools=[TOOL], tokenize=False, add_generation_prompt=True)
        assert loaded.render(messages, tools=[TOOL]) == expected


@pytest.mark.parametrize("template", TOOL_TEMPLATES.values(), ids=TOOL_TEMPLATES.keys())
def test_arguments_as_the_text_that_clients_send_render_like_the_object(template: str) -> None:
    loaded = ChatTemplate(template, {})
    call = {**CALL, "function": {"name": "weather", "arguments": '{"city":"Z\\u00fcrich"}'}}
    sent = [message | {"tool_calls": [call]} if "tool_calls" in message else message for message in CALLED]
    assert loaded.render(sent, tools=[TOOL]) == loaded.render(CALLED, tools=[TOOL])


@pytest.mark.parametrize("arguments", ["{", "[]", "1", "[" * 100_000, '{"a":' * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    with pytest.raises(ChatTemplateError, match="not a JSON object"):
        ChatTemplate(HERMES, {}).render([{"role": "assistant", "content": "", "tool_calls": [call]}])


def test_half_of_a_surrogate_pair_in_arguments_can_still_be_tokenized() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"\\ud800": "\\ud83d\\ude00"}'}}
    rendered = ChatTemplate(HERMES, {}).render([{"role": "assistant", "content": "", "tool_calls": [call]}])
    assert '{"\ufffd": "😀"}' in rendered


def test_a_call_without_arguments_has_none() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "now", "arguments": ""}}
    rendered = ChatTemplate(HERMES, {}).render([{"role": "assistant", "content": "", "tool_calls": [call]}])
    assert '{"name": "now", "arguments": {}}' in rendered


@pytest.mark.parametrize("source", [CHATML, "{{ raise_exception('no tools') }}"])
def test_a_template_without_tools_is_recognised(source: str) -> None:
    assert not ChatTemplate(source, {}).takes_tools


def test_a_template_of_its_own_for_tools_is_rendered_only_with_tools(tmp_path: Path) -> None:
    declared = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | tojson }}"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": declared}), encoding="utf-8")
    from_config = load_chat_template(tmp_path, {})
    (tmp_path / "chat_template.jinja").write_text("plain", encoding="utf-8")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | tojson }}", encoding="utf-8")
    for template in (from_config, load_chat_template(tmp_path, {})):
        assert template is not None
        assert template.takes_tools
        assert template.render([]) == template.render([], tools=[]) == "plain"
        assert template.render([], tools=[TOOL]) == json.dumps([TOOL])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for %}", "the chat template is not valid: "),
        ("{{ x | nope }}", "No filter named 'nope'"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "maximum recursion depth"),
        ("{% for a in b %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
        ("{{ 1" + "0" * 5000 + " }}", "limit"),
        ("{% autoescape 'a' | center(10 ** 12) %}{% endautoescape %}", "autoescape is not available"),
    ],
    ids=["syntax", "filter", "depth", "loops", "digits", "autoescape"],
)
def test_a_template_that_cannot_be_compiled_is_a_fault_with_its_reason(source: str, reason: str) -> None:
    assert reason in str(template_fault(source))


@pytest.mark.parametrize("expression", ["'a' * 10 ** 12", "'a' | center(10 ** 12)", "10 ** 10 ** 10"])
@pytest.mark.parametrize("form", ["{{{{ {} }}}}", "{{% set x = {} %}}", "{{% macro f(x={}) %}}{{% endmacro %}}"])
def test_compiling_a_template_evaluates_nothing_of_it(form: str, expression: str) -> None:
    assert template_fault(form.format(expression)) is None


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages.nothing.more }}",
        "{% include 'other' %}",
        "{{ '%d' % 'x' }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_whatever_a_template_raises_is_its_refusal(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])
