"""The sandbox's word-level tokenizer and its chat template."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from trainer.sandbox.corpus import every_text

SPECIAL = {"pad": "<|pad|>", "unk": "<|unk|>", "bos": "<|begin|>", "eos": "<|end|>"}
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# Every turn is `<|role|> text <|end|>`. The generation tags mark what the assistant says, for assistant-only losses.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{%- else -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The same tokenizer every time: its vocabulary is the sorted set of words the sandbox can say."""
    words = sorted({piece for text in every_text() for piece, _ in Whitespace().pre_tokenize_str(text)})
    vocabulary = {token: index for index, token in enumerate([*SPECIAL.values(), *ROLES, *words])}
    core = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk"]))
    core.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **{f"{name}_token": token for name, token in SPECIAL.items()},
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
