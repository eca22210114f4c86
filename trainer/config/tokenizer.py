"""Whether a tokenizer that is on this machine can be loaded, and its chat template rendered."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from trainer.config.models import model_directory

_SECONDS = 10  # a chat of one turn takes microseconds


def tokenizer_problems(
    key: str, source: str, base_dir: Path, trust_remote_code: bool = False, chat_template: str | None = None
) -> list[str]:
    """What is wrong with the tokenizer in a directory that is there; nothing is known of one on a hub.

    Args:
        key: the key that names `source`.
        chat_template: in place of the tokenizer's own.
    """
    path = model_directory(source, base_dir)
    if path is None or not path.is_dir():
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
        with _limited(_SECONDS):
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False)
    except TimeoutError:
        return [f"{key}: the chat template of {source} does not come to an end; use another tokenizer."]
    except (TemplateError, TypeError, ValueError, KeyError, RecursionError, OverflowError, MemoryError) as error:
        return [f"{key}: the chat template of {source} cannot render a chat of one turn: {error}"]
    return []


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block when it takes longer; without a limit outside the main thread, which has the signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
