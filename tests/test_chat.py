"""Talking to a trained model, through what a user types."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from trainer.chat import main
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import write_config
from trainer.config.sections import ModelSection
from trainer.config.shipped import BASE_DIR
from trainer.evaluation.generate import complete
from trainer.methods.dsa import artifact
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer

QUESTION, OTHER = "what is 2 plus 3 ?", "say the last word of red green blue ."
NEW = 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one training stage that left the shipped base as it was."""
    run = tmp_path_factory.mktemp("run")
    write_config(load_config(composed(["experiment=sft", "deepspeed=none", "model.dtype=float32"])), run / "config.yaml")
    (run / "sft").mkdir()
    (run / "sft" / "model").symlink_to(BASE_DIR)
    return run


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that left a guardrail, which finds every prompt unsafe by 0.731, and an untrained aligner."""
    run = tmp_path_factory.mktemp("adapted")
    write_config(load_config(composed(["experiment=dsa", "model=sandbox"])), run / "config.yaml")
    base = load_model(ModelSection(path=str(BASE_DIR), dtype="float32"), str(BASE_DIR))
    torch.manual_seed(0)
    guardrail = make_guardrail(AdapterConfig("plr"), base, ("prompt",))
    guardrail.tau = 0.9
    torch.nn.init.zeros_(guardrail.head.weight)
    torch.nn.init.ones_(guardrail.head.bias)
    for name, adapter in {"guardrail": guardrail, "aligner": make_aligner(AdapterConfig("lst"), base)}.items():
        (run / name).mkdir()
        artifact.save(adapter, run / name, base_fingerprint(str(BASE_DIR)))
    return run


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What the shipped base says to each question alone."""
    section = ModelSection(path=str(BASE_DIR), dtype="float32")
    model, tokenizer = load_model(section, str(BASE_DIR)), load_tokenizer(section, str(BASE_DIR))
    asked = [QUESTION, OTHER]
    chats = [[{"role": "user", "content": text}] for text in asked]
    return {asked[index]: reply for batch in complete(chats, model, tokenizer, NEW, 1) for index, reply in batch}


class Talk:
    """Runs the command with these lines as its input and returns what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, where: Path, *typed: str, code: int = 0, options: tuple[str, ...] = ()) -> list[str]:
        self.monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        self.capsys.readouterr()
        assert main([str(where), "--device", "cpu", "--max-new-tokens", str(NEW), *options]) == code
        printed = self.capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        return [line.removeprefix("> ").strip() for line in lines if not line.startswith("Loading weights")]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    return Talk(monkeypatch, capsys)


def test_a_model_of_any_method_answers(talk: Talk, trained: Path, answers: dict[str, str]) -> None:
    assert answers[QUESTION] != answers[OTHER]
    for where in (trained, BASE_DIR):
        printed = talk(where, QUESTION, "/reset", OTHER, "", "/quit", "not read")
        assert printed[1:4] == [answers[QUESTION], "a new conversation", answers[OTHER]]
        assert len(printed) == 5  # /quit ends it


def test_without_an_aligner_strength_says_so(talk: Talk, trained: Path, answers: dict[str, str]) -> None:
    printed = talk(trained, "/strength 0.5", "/targeted on", QUESTION)
    assert printed[1:4] == 2 * ["this model has no aligner, so there is nothing to mix in"] + [answers[QUESTION]]


def test_an_unknown_command_shows_those_there_are(talk: Talk, trained: Path) -> None:
    assert any(line.startswith("/targeted on|off") for line in talk(trained, "/stregth 1"))


def test_the_chosen_strength_changes_the_answer(talk: Talk, adapted: Path, answers: dict[str, str]) -> None:
    printed = talk(adapted, QUESTION, "/reset", "/strength 1", QUESTION, "/strength -1", options=("--strength", "0"))
    assert printed[1:3] == [answers[QUESTION], "strength 0"]
    assert printed[4] == "strength 1"
    assert printed[5] not in (answers[QUESTION], "") and printed[6] == "strength 1"
    assert printed[7].startswith("strength is a number of at least 0")


def test_a_targeted_chat_aligns_only_what_the_guardrail_flags(talk: Talk, adapted: Path, answers: dict[str, str]) -> None:
    aligned, targeted = (talk(adapted, *before, QUESTION) for before in ((), ("/targeted on",)))
    assert aligned[1] != answers[QUESTION] and aligned[2] == "strength 1"
    assert targeted[1:4] == ["targeted on", answers[QUESTION], "p(unsafe) 0.731 · strength 0"]  # tau is 0.9


def test_the_guardrail_of_a_run_without_an_aligner_says_what_it_finds(
    talk: Talk, adapted: Path, answers: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text((adapted / "config.yaml").read_text())
    (tmp_path / "guardrail").symlink_to(adapted / "guardrail")
    assert talk(tmp_path, QUESTION)[1:3] == [answers[QUESTION], "p(unsafe) 0.731"]


def test_a_run_of_adapters_that_has_none_yet_says_so(talk: Talk, tmp_path: Path) -> None:
    write_config(load_config(composed(["experiment=dsa"])), tmp_path / "config.yaml")
    assert any("no adapter is trained yet" in line for line in talk(tmp_path, code=2))


def test_a_later_turn_goes_on_from_the_conversation_so_far(talk: Talk, adapted: Path) -> None:
    """The caches of both paths, kept from turn to turn at strength 0, give what the base says to the whole chat."""
    kept = talk(adapted, QUESTION, OTHER, options=("--strength", "0"))
    whole = talk(BASE_DIR, QUESTION, OTHER)
    assert [kept[1], kept[3]] == whole[1:3]


@pytest.mark.parametrize(("options", "granted"), [((), False), (("--trust-remote-code",), True)])
def test_only_the_command_line_lets_a_models_code_run(
    talk: Talk, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], granted: bool
) -> None:
    """The config of the run, which somebody else may have written, says yes each time."""
    values = yaml.safe_load((trained / "config.yaml").read_text())
    values["model"]["trust_remote_code"] = True
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    shutil.copytree(BASE_DIR, tmp_path / "sft" / "model")
    config = tmp_path / "sft" / "model" / "config.json"
    own = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs", "AutoModelForCausalLM": "theirs.Model"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
    marker = tmp_path / "it ran"
    (tmp_path / "sft" / "model" / "theirs.py").write_text(f"open({str(marker)!r}, 'w')\nraise ValueError('enough')\n")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    talk(tmp_path, options=options, code=2)
    assert marker.exists() == granted


def test_what_cannot_be_talked_to_is_explained(talk: Talk, adapted: Path, trained: Path, tmp_path: Path) -> None:
    assert any("holds neither a run" in line for line in talk(tmp_path, code=2))
    (tmp_path / "config.yaml").write_text((trained / "config.yaml").read_text())
    assert any("stage sft has left no model" in line for line in talk(tmp_path, code=2))
    (tmp_path / "config.yaml").write_text((adapted / "config.yaml").read_text())
    (tmp_path / "aligner").mkdir()
    facts = (adapted / "aligner" / artifact.FACTS).read_text()
    (tmp_path / "aligner" / artifact.FACTS).write_text(facts)
    assert any("holds no whole adapter" in line for line in talk(tmp_path, code=2))
