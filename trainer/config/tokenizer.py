"""Whether a tokenizer that is on this machine can be loaded, and its chat template rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config.limited import limited
from trainer.config.models import directory_here, on_hub


def tokenizer_problems(
    key: str,
    source: str,
    base_dir: Path,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    revision: str | None = None,
) -> list[str]:
    """What is wrong with the tokenizer in a directory that is there, or in the cache of the hub; of another nothing is known.

    Args:
        key: the key that names `source`.
        chat_template: in place of the tokenizer's own.
    """
    path = directory_here(source, base_dir, revision)
    if path is None or (on_hub(source) and not any(path.glob("*token*"))):  # of the hub only a part is here
        return []
    from jinja2.exceptions import TemplateError
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        return [f"{key}: {source} holds no tokenizer that transformers can load: {str(error).splitlines()[0]}"]
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    if tokenizer.chat_template is None:
        return [
            f"{key}: {source} has no chat template, and prompts are chats; use an instruct model's tokenizer, or set "
            "model.chat_template."
        ]
    try:
        with limited():
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False)
    except TimeoutError:
        return [f"{key}: the chat template of {source} does not come to an end; use another tokenizer."]
    except MemoryError:
        return [f"{key}: the chat template of {source} makes a text of gigabytes of one turn; use another tokenizer."]
    except (TemplateError, TypeError, ValueError, KeyError, RecursionError, OverflowError) as error:
        return [f"{key}: the chat template of {source} cannot render a chat of one turn: {error}"]
    return []
