"""Chat templates with tools, one for each format that is served: how a model is told of tools and how it calls them."""

_CHATML_TURNS = """
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '\n' if message.content or not loop.first }}
            {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

HERMES = (
    """
{%- if tools %}
    {{- '<|im_start|>system\nTools:\n<tools>' }}
    {%- for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}
    {{- '\n</tools>\nCall them within <tool_call></tool_call>.<|im_end|>\n' }}
{%- endif %}"""
    + _CHATML_TURNS
)
"""Hermes and Qwen: JSON between tags, any number of calls."""

LLAMA = """
{%- if tools %}
    {{- '<|im_start|>system\nEnvironment: ipython\nCall with {"name": ..., "parameters": {...}}.' }}
    {%- for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}{{ raise_exception('One tool call at a time!') }}{% endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|im_start|>assistant\n{"name": "' + call.name + '", "parameters": ' }}
        {{- (call.arguments | tojson) + '}<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>ipython\n' + (message.content | tojson) + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
"""Llama 3: one bare JSON object."""

_MISTRAL_START = """
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools and loop.last %}{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + (message.content | tojson) + ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- elif message.tool_calls %}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{ raise_exception('Ids have 9 characters!') }}{% endif %}
        {%- endfor %}"""

_MISTRAL_END = """
    {%- else %}
        {{- ' ' + message.content + '<|im_end|>' }}
    {%- endif %}
{%- endfor %}
"""

MISTRAL = (
    _MISTRAL_START
    + """
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {{- '{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
            {{- ', "id": "' + call.id + '"}' + ('' if loop.last else ', ') }}
        {%- endfor %}
        {{- ']<|im_end|>' }}"""
    + _MISTRAL_END
)
"""Mistral up to version 7 of its tokenizer: a JSON list after a special token."""

MISTRAL_COMPACT = (
    _MISTRAL_START
    + """
        {%- for call in message.tool_calls %}
            {{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) }}
        {%- endfor %}
        {{- '<|im_end|>' }}"""
    + _MISTRAL_END
)
"""Mistral from version 11 on: name and arguments of each call after a special token."""
