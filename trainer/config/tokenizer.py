"""Whether a tokenizer that is on this machine can be loaded, and its chat template rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config.hub import directory_of
from trainer.config.limited import limited
from trainer.config.paths import looks_local


def tokenizer_problems(
    key: str, source: str, base_dir: Path, trust_remote_code: bool = False, revision: str | None = None
) -> list[str]:
    """What is wrong with the tokenizer in a directory that is there, or in the cache of the hub; of another nothing is known.

    Args:
        key: the key that names `source`.
    """
    path = directory_of(source, base_dir, revision)
    if path is None or (not looks_local(source) and not any(path.glob("*token*"))):  # of the hub only a part is here
        return []
    from jinja2.exceptions import TemplateError
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        return [f"{key}: {source} holds no tokenizer that transformers can load: {str(error).splitlines()[0]}"]
    if tokenizer.chat_template is None:
        return [
            f"{key}: {source} has no chat template, and prompts are chats; use an instruct model's tokenizer or add a "
            "chat_template to its tokenizer_config.json."
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
