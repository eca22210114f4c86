"""Talk to a model: `python -m trainer.chat runs/dsa --strength 0.5`. Replies are greedy; /help shows the commands.

Of a run, the model that it trained last; or where it trained safety adapters, its base with the newest aligner and the
guardrail of prompts that targets it, or else the newest.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TextStreamer

from trainer.config.load import read_config
from trainer.config.sections import ModelSection
from trainer.dotted import resolve
from trainer.ending import KEYBOARD, explain
from trainer.errors import ArtifactError, ConfigError, KeelError
from trainer.items import Message
from trainer.methods.dsa.base import read
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.inference import AlignedModel, Conversation, p_unsafe
from trainer.methods.dsa.talk import UNCALIBRATED, Left, load_adapters
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.models.template import stop_tokens
from trainer.pipeline.places import MODEL_DIR, base_model_path
from trainer.pipeline.run import CONFIG

HELP = """/strength X        how much of the aligner is mixed in: 0 is the base alone, 1 the aligner
/targeted on|off   align only prompts that the guardrail finds unsafe
/reset             begin a new conversation
/help, /quit"""


class Chat:
    """One conversation with one model."""

    def __init__(self, where: Path, device: str, strength: float, max_new_tokens: int, system: str | None, trusted: bool):
        """Raises: ConfigError, ArtifactError: there is no model at `where`, or it cannot be loaded."""
        self.strength, self.targeted, self.max_new_tokens = strength, False, max_new_tokens
        self.system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.console = Console()
        section, path, left = _find(where)
        section = replace(section, trust_remote_code=trusted)  # type: ignore[type-var]  # pydantic's are dataclasses
        self.ramp = left.ramp
        self.tokenizer = load_tokenizer(section, path)
        self.base = load_model(section, path).to(device).eval()
        self.aligner, self.guardrail = load_adapters(left.adapters, self.base, path)
        self.reset()

    def reset(self) -> None:
        self.messages, self.conversation = list(self.system), Conversation()

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def hear(self) -> bool:
        """Waits for a line and does what it says. Returns whether the chat goes on. Raises EOFError after the last one."""
        line = input("> ").strip()
        if line.startswith("/"):
            return self.command(*line.split(maxsplit=1))
        try:
            if line:
                self.say(line)
        except KeyboardInterrupt:
            self.note("\nstopped; this message is forgotten")
        return True

    def command(self, name: str, value: str = "") -> bool:
        match name, value:
            case "/quit", "":
                return False
            case "/reset", "":
                self.reset()
                self.note("a new conversation")
            case "/strength" | "/targeted", _ if self.aligner is None:
                self.note("this model has no aligner, so there is nothing to mix in")
            case "/strength", _:
                try:
                    self.strength = _strength(value)
                    self.note(f"strength {self.strength:g}")
                except argparse.ArgumentTypeError as error:
                    self.note(str(error))
            case "/targeted", _ if self.guardrail is None:
                self.note("this model has no guardrail of prompts, so alignment cannot be targeted")
            case "/targeted", "on" | "off":
                self.targeted = value == "on"
                self.note(f"targeted {value}")
            case _:
                self.note(HELP)
        return True

    def say(self, text: str) -> None:
        """Streams the reply to one message."""
        chat = [*self.messages, {"role": "user", "content": text}]
        encoded = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        prompt = {name: encoded[name].to(self.base.device) for name in ("input_ids", "attention_mask")}
        model, how = self._prepared()
        output = model.generate(
            **prompt, **how, max_new_tokens=self.max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
            pad_token_id=self.tokenizer.pad_token_id, eos_token_id=stop_tokens(self.base, self.tokenizer),
            streamer=TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True),
        )  # fmt: skip
        if facts := self._facts(prompt):
            self.note(facts)
        reply = self.tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        self.messages = [*chat, {"role": "assistant", "content": reply}]

    def _prepared(self) -> tuple[Any, dict[str, Any]]:
        """What answers, and what its `generate` is told."""
        if self.aligner is None:
            return self.base, {}
        strength: Any = self.strength
        if self.targeted and strength:
            tau = self.guardrail.tau
            strength = Gate(UNCALIBRATED if tau is None else tau, strength, self.ramp)
        model = AlignedModel(self.base, self.aligner, self.guardrail)
        return model, {"alignment_strength": strength, "conversation": self.conversation}

    def _facts(self, prompt: dict[str, Any]) -> str:
        """How the last reply came about: what the guardrail said of the prompt where it was asked, and the strength."""
        p, strength = self.conversation.p_unsafe, self.conversation.strength
        if self.aligner is None and self.guardrail is not None:
            p = p_unsafe(self.guardrail, read(self.base, **prompt, logits_to_keep=1).hidden_states, prompt["attention_mask"])
        said = [] if p is None else [f"p(unsafe) {p.item():.3f}"]
        return " · ".join([*said, *([] if strength is None else [f"strength {strength.item():g}"])])


def _find(where: Path) -> tuple[ModelSection, str, Left]:
    """The model's section of the config, where its weights are, and the adapters beside it."""
    alone = Left([], 0.0)
    if not (where / CONFIG).exists():
        if not (where / "config.json").exists():
            raise ConfigError(f"{where}: holds neither a run ({CONFIG}) nor a model (config.json); give the directory of one.")
        return ModelSection(path=str(where)), str(where), alone  # type: ignore[call-arg]  # pydantic's
    config = read_config(where / CONFIG)
    if config.method.chat is not None:
        return config.model, base_model_path(config, where), resolve(config.method.chat)(config, where)
    last = config.method.talked_to(config)
    if not (model := where / last / MODEL_DIR).exists():
        raise ArtifactError(f"{where}: stage {last} has left no model; let the run finish, or give the directory of a model.")
    dtype = config.model.save_dtype or config.model.dtype
    return replace(config.model, dtype=dtype), str(model), alone  # type: ignore[type-var]  # a dataclass of pydantic


def _strength(text: str) -> float:
    """Raises: ArgumentTypeError: it is not a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"strength is a number of at least 0: 0 is the base, 1 the aligner; not {text!r}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where", type=Path, metavar="RUN_OR_MODEL_DIR")
    parser.add_argument("--strength", type=_strength, default=1.0, help="of the aligner, where there is one (default: 1)")
    parser.add_argument("--system", help="a system prompt, such as a safety config")
    parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
    parser.add_argument("--device", default=device_of_rank(), help="default: the GPU, if there is one")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that comes with the model, whoever wrote it"
    )
    given = parser.parse_args(arguments)
    try:
        chat = Chat(given.where, given.device, given.strength, given.max_new_tokens, given.system, given.trust_remote_code)
        chat.note(f"{given.where}: /help shows the commands")
        while chat.hear():
            pass
    except KeelError as error:
        return explain(error)
    except EOFError:
        print()
    except KeyboardInterrupt:
        return KEYBOARD
    return 0


if __name__ == "__main__":
    sys.exit(main())
