"""Conversations as padded token ids, with the reply marked.

B sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainer.errors import DataError
from trainer.items import Message


def encode(tokenizer: Any, rows: Sequence[tuple[Sequence[Message], str]]) -> list[dict[str, Any]]:
    """(prompt, reply) -> `input_ids`, and `labels`, -100 outside the reply.

    Raises:
        DataError: the chat template refuses a conversation, does not begin with the prompt, or has no reply.
    """
    encoded = []
    for prompt, reply in rows:
        whole = [*prompt, {"role": "assistant", "content": reply}]
        try:
            before = tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_dict=True)["input_ids"]
            ids = tokenizer.apply_chat_template(whole, return_dict=True)["input_ids"]
        except (TemplateError, ValueError) as error:
            raise DataError(f"data: the chat template refuses a conversation: {error}") from error
        if ids[: len(before)] != before or len(ids) == len(before):
            raise DataError(
                f"data: a prompt of {len(before)} tokens is not the beginning of its conversation of {len(ids)}: the chat "
                "template changes it once there is a reply, so the reply cannot be told; use another tokenizer."
            )
        encoded.append({"input_ids": ids, "labels": [-100] * len(before) + ids[len(before) :]})
    return encoded


def padded(rows: Sequence[dict[str, Any]], pad_token: int) -> dict[str, Tensor]:
    """input_ids, attention_mask, labels, each (B, T), padded on the right."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_token),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence([torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=-100),
    }
