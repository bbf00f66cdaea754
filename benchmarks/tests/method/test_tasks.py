from benchmarks.method.tasks import PLAIN_TEMPLATE
from headmix_adapters.text.chat_template import ChatTemplate

TURNS = [{"role": "user", "content": "A fox?"}, {"role": "assistant", "content": "A dog."}]


def test_the_template_of_a_base_that_has_none_begins_with_the_first_token_and_ends_with_the_last() -> None:
    template = ChatTemplate(PLAIN_TEMPLATE.read_text(), {"bos_token": "<bos>", "eos_token": "<eos>"})
    prompt = template.render(TURNS[:1], add_generation_prompt=True)
    assert prompt == "<bos>user:\nA fox?\nassistant:\n"
    assert template.render(TURNS, add_generation_prompt=False) == f"{prompt}A dog.<eos>"
