"""How a base reads text: its tokenizer and its chat template, from one folder."""

from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.text.chat_template import ChatTemplate, load_chat_template
from headmix_adapters.text.tokenizer import BaseTokenizer, read_tokenizer


@dataclass(frozen=True, slots=True)
class BaseText:
    """A base's tokenizer, and its chat template if it has one."""

    tokenizer: BaseTokenizer
    chat_template: ChatTemplate | None


def read_base_text(folder: Path) -> BaseText:
    """Read a base's tokenizer and chat template.

    Raises:
        TokenizerError, ChatTemplateError: a file is missing or cannot be read.
    """
    tokenizer = read_tokenizer(folder)
    return BaseText(tokenizer, load_chat_template(folder, tokenizer.roles))
