"""What is found of models, tokenizers and names before a process starts, because it can be looked up on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config import tokenizer as tokenizer_check
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.errors import ConfigError

LORA = "experiment=sft model=sandbox ++model.lora"


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(composed([part for override in overrides for part in override.split()]))
    return caught.value.problems


# fmt: off
NOWHERE = [
    (f"{LORA}.target_modules=[query_key_value]", "model.lora: Target modules", "has down_proj, gate_proj"),
    (f"{LORA}.target_modules=[q_proj,lm_head]", "model.lora.target_modules: the losses here read the head's weight", ""),
    (f"{LORA}.modules_to_save=[scores]", "model.lora.modules_to_save: there is no module scores", "down_proj"),
    (f"{LORA}.rank_pattern={{query:4}}", "model.lora.rank_pattern.query: is no module with an adapter", "q_proj"),
    ("experiment=sft model.attn_implementation=foo", "model.attn_implementation: unknown 'foo'", ""),
    ("experiment=sft model.attn_implementation=flash_attention_3", "model.attn_implementation: ", "flash_attn_interface"),
    ("experiment=sft tracking.project=team/keel", "tracking.project: W&B takes", "'team/keel'"),
    ("experiment=sft tracking.tags=['']", "tracking.tags: ", ""),
]
# fmt: on


@pytest.mark.parametrize(("overrides", "begins", "says"), NOWHERE, ids=[case[0] for case in NOWHERE])
def test_a_name_that_leads_nowhere_is_refused(overrides: str, begins: str, says: str) -> None:
    assert any(line.startswith(begins) and says in line for line in problems(overrides)), problems(overrides)


def test_names_that_are_there_are_passed() -> None:
    load_config(composed([*LORA.split()[:2], "++model.lora.target_modules=[q_proj]", "++model.lora.rank_pattern={q_proj:4}"]))
    load_config(composed(["experiment=sft", "tracking.project=team_keel", "tracking.mode=online"]))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE_DIR, tmp_path / "base"))


@pytest.mark.parametrize("key", ["model.path", "judge.path"])
def test_a_template_that_cannot_be_used_is_found(key: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ["judge=model", "evaluation=cosalign_test", f"evaluation.path={base}"] if key == "judge.path" else []
    given = ["experiment=sft", f"{key}={base}", *other]
    template = base / "chat_template.jinja"
    assert not [line for line in _of(key, given)]
    template.write_text("{{ raise_exception('no') }}")
    assert "cannot render a chat of one turn: no" in _of(key, given)[0]
    template.write_text("{% if %}")
    assert "cannot render a chat of one turn" in _of(key, given)[0]
    monkeypatch.setattr(tokenizer_check, "_SECONDS", 0.2)
    template.write_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    assert "does not come to an end" in _of(key, given)[0]
    template.unlink()
    assert "has no chat template" in _of(key, given)[0]
    (base / "tokenizer.json").write_text("{}")
    assert "holds no tokenizer that transformers can load" in _of(key, given)[0]


def _of(key: str, overrides: list[str]) -> list[str]:
    """The problems of this key."""
    try:
        load_config(composed(overrides))
    except ConfigError as error:
        return [line for line in error.problems if line.startswith(f"{key}: ")]
    return []


def test_a_directory_without_a_config_is_no_base_for_an_adapter(base: Path) -> None:
    (base / "config.json").write_text(json.dumps({"model_type": "lama"}))
    found = problems("experiment=sft", f"model.path={base}", "++model.lora.r=4")
    assert any("lama" in line for line in found), found
