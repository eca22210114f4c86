"""What is found of models, tokenizers and names before a process starts, because it can be looked up on this machine."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError

from trainer.compose import composed
from trainer.config import tokenizer as tokenizer_check
from trainer.config.limited import limited
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.config.stage import Stage
from trainer.errors import ConfigError
from trainer.pipeline.chain import chain
from trainer.pipeline.run import carry_out
from trainer.pipeline.work import absent_problems

LORA = "experiment=sft model=sandbox ++model.lora"


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(composed([part for override in overrides for part in override.split()]))
    return caught.value.problems


# fmt: off
NOWHERE = [
    (f"{LORA}.target_modules=[query_key_value]", "model.lora: Target modules", "has down_proj, gate_proj"),
    (f"{LORA}.target_modules=[q_proj,lm_head]", "model.lora.target_modules: the losses here read", ""),
    (f"{LORA}.trainable_token_indices={{embed_tokens:[5]}}", "model.lora.trainable_token_indices: the losses here", "tied"),
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
    template.write_text("{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}")
    assert "makes a text of gigabytes" in _of(key, given)[0]
    monkeypatch.setattr(tokenizer_check, "limited", partial(limited, 0.2))
    template.write_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    assert "does not come to an end" in _of(key, given)[0]
    template.unlink()
    assert "has no chat template" in _of(key, given)[0]
    (base / "tokenizer.json").write_text("{}")
    assert "holds no tokenizer that transformers can load" in _of(key, given)[0]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of `org/name` in a cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    return Path(shutil.copytree(BASE_DIR, folder / "snapshots" / "c0ffee"))


@pytest.mark.parametrize("key", ["model.path", "model.tokenizer", "judge.path"])
def test_what_is_in_the_cache_of_the_hub_is_looked_at_too(key: str, hub: Path) -> None:
    other = ["judge=model", "evaluation=cosalign_test", f"evaluation.path={hub}"] if key == "judge.path" else []
    given = ["experiment=sft", f"{key}=org/name", *other]
    assert not _of(key, given)
    (hub / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    assert "cannot render a chat of one turn: no" in _of(key, given)[0]


def test_the_config_of_a_cached_model_tells_its_positions_modules_and_kind(hub: Path) -> None:
    given = ["experiment=sft", "model.path=org/name"]
    assert _of("sft: max_length", [*given, "trainer.max_length=100000"])
    assert _of("model.lora", [*given, "++model.lora.target_modules=[query_key_value]"])
    (hub / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    (hub / "model.safetensors").unlink()
    assert "is an adapter, not a model" in _of("model.path", given)[0]


def test_offline_a_name_of_the_hub_that_is_not_in_the_cache_is_an_error_before_a_start(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.pipeline.hub.is_offline_mode", lambda: True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "prepared"))
    given = ["experiment=sft", "model.path=org/name", "data=preference", "data.path=Some-Body/TwoPairs:all", "evaluation=none"]
    config = load_config(composed([*given, "model.tokenizer=org/nmae", f"paths.runs={tmp_path / 'runs'}"]))
    with pytest.raises(ConfigError) as caught:
        carry_out(config)
    assert [line.partition(": ")[0] for line in caught.value.problems] == ["model.tokenizer", "data.path"]
    assert "hf download Some-Body/TwoPairs --repo-type dataset" in caught.value.problems[1]
    assert not (tmp_path / "runs").exists()
    (tmp_path / "prepared" / "Some-Body___two_pairs").mkdir(parents=True)  # as `datasets` writes it
    assert [line.partition(": ")[0] for line in absent_problems(chain(config))] == ["model.tokenizer"]


def test_a_name_that_the_hub_does_not_know_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.pipeline.hub.is_offline_mode", lambda: False)
    monkeypatch.setattr("trainer.pipeline.hub.HfApi.repo_info", refused)
    reads = {"model.path": "org/gone", "data.path": "org/no-network"}
    problems = absent_problems([Stage("sft", "", reads=reads)])
    assert len(problems) == 1 and problems[0].startswith("model.path: org/gone: ") and "no such model" in problems[0]


def refused(_api: object, name: str, **_: object) -> None:
    if name == "org/gone":
        raise RepositoryNotFoundError("404", response=httpx.Response(404, request=httpx.Request("GET", "https://hub")))
    raise httpx.ConnectError("no network")


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
