"""Adapters saved, loaded, refused, and several of them on one forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.methods.dsa_kinds import KINDS
from tests.methods.test_dsa_adapters import SMALL, base, hidden_of, shaken
from tests.models.test_blocks import tokens
from trainer.errors import ArtifactError, ConfigError
from trainer.methods.dsa.adapter_config import ALIGNERS, AdapterConfig
from trainer.methods.dsa.artifact import FACTS, WEIGHTS, Adapters, load, save
from trainer.methods.dsa.base import read
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.models.fingerprint import base_fingerprint

BASE = "0123456789abcdef"


def saved(directory: Path, adapter: Any, fingerprint: str = BASE) -> Path:
    directory.mkdir()
    save(adapter, directory, fingerprint)
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_a_guardrail_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    model, ids = base("llama"), tokens()
    guardrail = shaken(make_guardrail(SMALL[kind], model, ["prompt", "response"]))
    guardrail.tau = 0.37
    found = load(saved(tmp_path / "guard", guardrail), model, BASE)
    arguments = hidden_of(model, ids), torch.ones_like(ids), torch.tensor([[3, 8], [4, 7]])
    assert torch.equal(found(*arguments), guardrail(*arguments))
    assert (found.labels, found.tau, found.adapter.config) == (("prompt", "response"), 0.37, SMALL[kind])


@pytest.mark.parametrize("kind", ALIGNERS)
def test_an_aligner_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    model, ids = base("gemma"), tokens()
    aligner = shaken(make_aligner(SMALL[kind], model))
    found = load(saved(tmp_path / "aligner", aligner), model, BASE)
    hidden, mask = hidden_of(model, ids), torch.ones_like(ids)
    assert torch.equal(found.states(hidden, mask), aligner.states(hidden, mask))
    trained = [[name for name, p in a.named_parameters() if p.requires_grad] for a in (found, aligner)]
    assert trained[0] == trained[1]


def test_a_float32_adapter_of_a_half_precision_base_stays_float32(tmp_path: Path) -> None:
    model = base("llama").to(torch.bfloat16)
    aligner = make_aligner(SMALL["lld"], model).float()
    found = load(saved(tmp_path / "aligner", aligner), model, BASE)
    assert {p.dtype for p in found.parameters()} == {torch.float32}


def test_an_adapter_is_refused_beside_another_base(tmp_path: Path) -> None:
    models, fingerprints = [base("llama"), base("llama", vocab_size=110)], []
    for number, model in enumerate(models):
        model.save_pretrained(tmp_path / str(number))
        fingerprints.append(base_fingerprint(str(tmp_path / str(number))))
    directory = saved(tmp_path / "guard", make_guardrail(SMALL["lst"], models[0], ["prompt"]), fingerprints[0])
    load(directory, models[0], fingerprints[0])
    with pytest.raises(ArtifactError, match=f"trained on the base {fingerprints[0]}, and the model is {fingerprints[1]}"):
        load(directory, models[1], fingerprints[1])


def test_an_adapter_that_a_step_has_ruined_is_refused(tmp_path: Path) -> None:
    model = base("llama")
    adapter = make_guardrail(SMALL["lst"], model, ["prompt"])
    torch.nn.init.constant_(next(p for p in adapter.parameters() if p.requires_grad), float("nan"))
    with pytest.raises(ArtifactError, match=r"holds no whole adapter .* is not finite"):
        load(saved(tmp_path / "guard", adapter), model, BASE)


def changed_facts(directory: Path, **changes: Any) -> None:
    facts = json.loads((directory / FACTS).read_text())
    (directory / FACTS).write_text(json.dumps({**facts, **changes}))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda d: (d / FACTS).unlink(), "holds no whole adapter"),
        (lambda d: (d / WEIGHTS).unlink(), "holds no whole adapter"),
        (lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-3]), "has other content than was written"),
        (lambda d: (d / FACTS).write_text("{"), "holds no whole adapter"),
        (lambda d: (d / FACTS).write_text("[]"), "holds no whole adapter"),
        (lambda d: changed_facts(d, role="judge"), "its role is judge"),
        (lambda d: changed_facts(d, config={"kind": "lora"}), "should be 'plr', 'rtb', 'lst', 'lst_plus' or 'lld'"),
        (lambda d: changed_facts(d, config={"kind": "lst", "reduction": 2}), "the weights are not those of its adapter.json"),
    ],
)
def test_a_damaged_adapter_is_refused_with_the_reason(damage: Any, why: str, tmp_path: Path) -> None:
    model = base("llama")
    directory = saved(tmp_path / "guard", make_guardrail(SMALL["lst"], model, ["prompt"]))
    damage(directory)
    with pytest.raises(ArtifactError, match=why):
        load(directory, model, BASE)


def test_guardrails_and_an_aligner_load_together_and_share_one_forward_pass(tmp_path: Path) -> None:
    model, ids = base("llama"), tokens()
    members = {
        "harm": shaken(make_guardrail(SMALL["lst"], model, ["prompt", "response"])),
        "consistency": shaken(make_guardrail(SMALL["rtb"], model, ["summary"])),
        "safer": shaken(make_aligner(SMALL["lst_plus"], model)),
    }
    adapters = Adapters.load({name: saved(tmp_path / name, member) for name, member in members.items()}, model, BASE)
    passes: list[int] = []
    model.model.register_forward_hook(lambda *_: passes.append(1))
    hidden, mask, last = read(model, ids, torch.ones_like(ids)).hidden_states, torch.ones_like(ids), torch.tensor([8, 8])
    logits = adapters(hidden, mask, last)
    assert list(logits) == ["harm", "consistency"] == list(adapters.guardrails)
    for name, found in logits.items():
        assert torch.equal(found, members[name](hidden, mask, last))
    assert adapters.aligner is not None
    assert torch.equal(adapters.aligner.states(hidden, mask), members["safer"].states(hidden, mask))
    assert len(passes) == 1


def test_one_guardrail_is_replaced_without_touching_the_others(tmp_path: Path) -> None:
    model, ids = base("llama"), tokens()
    arguments = hidden_of(model, ids), torch.ones_like(ids), torch.tensor([8, 8])
    adapters = Adapters({name: shaken(make_guardrail(SMALL["lst"], model, ["prompt"])) for name in ("old", "other")})
    before = adapters(*arguments)
    adapters["old"] = make_guardrail(SMALL["rtb"], model, ["prompt"])
    after = adapters(*arguments)
    assert torch.equal(after["other"], before["other"])
    assert not torch.equal(after["old"], before["old"])


def test_two_aligners_are_refused() -> None:
    model = base("llama")
    with pytest.raises(ConfigError, match="one, two are all aligners"):
        Adapters({name: make_aligner(AdapterConfig("lst", reduction=4), model) for name in ("one", "two")})
