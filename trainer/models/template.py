"""What stands in a tokenizer's chat template, and what a run fixes in it before anything is rendered.

A template is a program: it may refuse or drop a system prompt, put in one of its own, or ask for today's date.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache, partial
from typing import Any

from jinja2.exceptions import TemplateError

from trainer.config.limited import limited
from trainer.errors import ConfigError, DataError
from trainer.items import Message

_SAID, _ANSWERED, _ASKED = "qwertz", "asdfgh", "yxcvbn"  # words to find again in what a template makes of them
_DIRECTIVES = ("%-d", "%-m", *(f"%{letter}" for letter in "aAdbBmyYjHIpMSUWwuVG"))
_SYSTEM_INTO_USER = (
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- if messages|length > 1 and messages[1]['role'] == 'user' -%}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] "
    "+ messages[2:] -%}"
    "{%- else -%}{%- set messages = [{'role': 'user', 'content': messages[0]['content']}] + messages[1:] -%}{%- endif -%}"
    "{%- endif -%}"
)


def prepare(tokenizer: Any, source: str, variables: Mapping[str, Any], today: str) -> None:
    """Fixes in a tokenizer's template what must not differ between two renderings of a run; what it saves has it too.

    - `variables` are set at its head, so that nothing can render a chat without them.
    - Its calls of `strftime_now` are answered with `today` (ISO 8601), in a resumed run too.
    - Where it refuses or drops a system prompt, the first user turn begins with that instead.
    - Text that looks like one of its control tokens stays text.

    Args:
        source: where the tokenizer is from, for errors.

    Raises:
        ConfigError: it has no template, or one that does not show what the user says, or that does not end.
    """
    try:
        _prepare(tokenizer, source, variables, today)
    except (TimeoutError, MemoryError) as error:
        raise ConfigError(
            f"model.tokenizer: the chat template of {source} does not come to an end, or makes a text of gigabytes "
            f"({type(error).__name__}); use another tokenizer."
        ) from error


def _prepare(tokenizer: Any, source: str, variables: Mapping[str, Any], today: str) -> None:
    if isinstance(tokenizer.chat_template, dict):  # several templates by name
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"model.tokenizer: {source} has no chat template, and prompts are chats; "
            "use an instruct model's tokenizer, or set model.chat_template."
        )
    _at_head(tokenizer, "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in variables.items()))
    if "strftime_now" in tokenizer.chat_template:
        _at_head(tokenizer, _strftime_of(date.fromisoformat(today)))
    if not _shows(tokenizer, [{"role": "user", "content": _SAID}]):
        raise ConfigError(
            f"model.tokenizer: the chat template of {source} refuses a chat of one user turn, or does not show what the user "
            "says; use an instruct model's tokenizer, or mend its chat_template."
        )
    if not takes_system(tokenizer):
        _at_head(tokenizer, _SYSTEM_INTO_USER)
        _say(f"{source}: its chat template takes no system prompt; here the first turn of the user begins with it instead.")
    tokenizer.apply_chat_template = partial(_rendered, tokenizer, tokenizer.apply_chat_template)


def takes_system(tokenizer: Any) -> bool:
    """Whether the template neither refuses nor drops a system prompt."""
    return _shows(tokenizer, [{"role": "system", "content": _SAID}, {"role": "user", "content": _ASKED}])


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """What ends a reply: the model's own end tokens, the tokenizer's, and that which ends a turn in the chat template. Base
    models often have another end token than the template that comes with them."""
    own = model.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, turn_end(tokenizer), *(own if isinstance(own, list) else [own])}
    return sorted(i for i in ids if i is not None)


def turn_end(tokenizer: Any) -> int | None:
    """The token with which the template ends a turn of the assistant; None where that is ordinary text."""
    try:
        after = _text(tokenizer, _chat(_SAID, _ANSWERED)).rpartition(_ANSWERED)[2]
    except TemplateError:  # no reply can be shown
        return None
    control = control_tokens(tokenizer)
    return next((token for token in tokenizer(after, add_special_tokens=False)["input_ids"] if token in control), None)


def control_tokens(tokenizer: Any) -> set[int]:
    """Tokens that are no text: special ones, and those added for a template without being marked special."""
    added = {token for token, of_token in tokenizer.added_tokens_decoder.items() if not of_token.content.isspace()}
    return added | set(tokenizer.all_special_ids)


def bare_template(tokenizer: Any) -> str:
    """The template without what it inserts by itself before the first turn of the user, such as a system prompt or a date."""
    own: str = tokenizer.chat_template
    try:
        before = _text(tokenizer, _chat(_SAID)).partition(_SAID)[0]
        ended = _text(tokenizer, _chat(_SAID, _ANSWERED)).partition(_ANSWERED)[2]
        between = _text(tokenizer, _chat(_SAID, _ANSWERED, _ASKED)).partition(_ANSWERED)[2].partition(_ASKED)[0]
    except TemplateError:
        return own
    if not between:
        return own
    header = _without_beginning(between, ended, tokenizer)  # of a user turn
    bos = tokenizer.bos_token or ""
    bare = header if not before.startswith(bos) or header.startswith(bos) else bos + header
    inserted = before.removesuffix(header).removeprefix(bos)
    if before == bare or not (before.endswith(header) or before.startswith(bare)):
        return own
    if not "".join(_pieces(inserted, tokenizer)[::2]).strip():  # tokens alone, such as GLM's [gMASK]<sop>
        return own
    replaced = f"{{{{ whole.replace({_literal(before)}, {_literal(bare)}, 1) }}}}"
    return "{%- set whole %}" + own.removesuffix("\n") + "{% endset %}" + replaced


def _chat(*turns: str) -> list[Message]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


def _text(tokenizer: Any, chat: Sequence[Message]) -> str:
    """A chat as the template writes it, the opening of a reply included where it ends with the user."""
    opens = chat[-1]["role"] == "user"
    with limited():
        text: str = tokenizer.apply_chat_template(chat, add_generation_prompt=opens, tokenize=False)
    return text


def _shows(tokenizer: Any, chat: Sequence[Message]) -> bool:
    try:
        text = _text(tokenizer, chat)
    except (TemplateError, TypeError):  # TypeError: the template wants content in parts, say
        return False
    return all(message["content"] in text for message in chat)


@cache
def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(line, flush=True)


def _at_head(tokenizer: Any, head: str) -> None:
    if not tokenizer.chat_template.startswith(head):  # a model of ours is saved with it
        tokenizer.chat_template = head + tokenizer.chat_template


def _strftime_of(day: date) -> str:
    """A macro in the place of the function that transformers gives to templates."""
    replaced = "".join(f".replace({_literal(d)}, {_literal(day.strftime(d))})" for d in _DIRECTIVES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro -%}}"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pieces(text: str, tokenizer: Any) -> list[str]:
    """Text, control token, text, ..., text."""
    tokens = tokenizer.convert_ids_to_tokens(sorted(control_tokens(tokenizer)))
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})", text)


def _without_beginning(text: str, beginning: str, tokenizer: Any) -> str:
    """Without as much of `beginning` as it begins with, no control token being cut."""
    if text.startswith(beginning):
        return text.removeprefix(beginning)
    ours, theirs = (_pieces(part, tokenizer) for part in (text, beginning))
    same = next((place for place, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), 0)
    return "".join(ours[same:])


def _rendered(
    tokenizer: Any, render: Any, *args: Any, tokenize: bool = True, return_assistant_tokens_mask: bool = False, **options: Any
) -> Any:
    """A tokenizer's `apply_chat_template` whose messages cannot forge control tokens.

    Raises:
        DataError: a message has one where transformers cannot keep it text, or rendering does not end.
    """
    if return_assistant_tokens_mask:
        conversation = args[0] if args else options["conversation"]
        if forged := _control_text(tokenizer, conversation):
            raise DataError(
                f"sft.assistant_only_loss: a message has the text {forged!r}, which would become a control token; set it to "
                "false, or take the row out."
            )
        options["return_assistant_tokens_mask"] = True
    else:
        options["sanitize_control_tokens"] = tokenize
    try:
        with limited():
            return render(*args, tokenize=tokenize, **options)
    except (TimeoutError, MemoryError) as error:
        raise DataError(
            "the tokenizer's chat template does not come to an end for a conversation, or makes gigabytes of it "
            f"({type(error).__name__}); use another tokenizer, or take such conversations out."
        ) from error


def _control_text(tokenizer: Any, conversation: Any) -> str | None:
    """The first control token that stands in a message."""
    shown = json.dumps(conversation, ensure_ascii=False, default=str)
    tokens = tokenizer.convert_ids_to_tokens(sorted(control_tokens(tokenizer)))
    return next((token for token in tokens if token and token in shown), None)
