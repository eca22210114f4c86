"""What can be wrong with a SafeSteer config, said before a process starts; and the published values."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.evaluation.stage import contenders
from trainer.methods.safesteer.section import SafeSteerMethod
from trainer.pipeline.chain import chain


def load(*overrides: str) -> RunConfig:
    return load_config(composed(["experiment=safesteer", *overrides]))


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    return caught.value.problems


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("data=sandbox",), "data.format: method=safesteer cannot train on sandbox; it needs data=instructions"),
        (("method.teacher=shared",), "method.teacher: shared takes the student's weights without its adapter; set model.lora"),
        (("method.loss=slise",), "method.loss: Input should be 'slice'"),
        (("method.direction.max_kle=1",), "method.direction.max_kle: unknown key; did you mean max_kl"),
        (("method.tokens.path=gone",), "method.tokens.path: gone is not a directory"),
        (("on_policy.temperature=0.7",), "on_policy.temperature: is set by the method"),
        (("on_policy.use_vllm=true",), "on_policy.use_vllm: is set by nothing"),
        (("on_policy.vllm_mode=server",), "on_policy.vllm_mode: is set by nothing"),
        (("on_policy.beta=0.5",), "on_policy.beta: is set by method.loss"),
        (("+sft.learning_rate=1e-5",), "sft: method=safesteer has no sft stage"),
        (("data.limit=3",), "data.limit: 3 prompts x method.rollouts=8 do not fill one step of 32 samples"),
        (("evaluation.models=[base,sft]",), "evaluation.models: unknown 'sft' with method=safesteer"),
        (
            ("evaluation.models=[base,safestear]",),
            "evaluation.models: unknown 'safestear' with method=safesteer; did you mean safesteer?",
        ),
        (("evaluation=prompts",), "evaluation.attacks: there is nothing to ask"),
        (
            ("evaluation=prompts", "evaluation.attacks.mine=nobody/prompts", "evaluation.file_columns.mien.text=a"),
            "evaluation.file_columns.mien: there is no such set of prompts; did you mean mine?",
        ),
        (("method.ablations=[full_vocab,full_vocab]",), "method.ablations: names one twice"),
        (("method.system_prompt=no", "method.export_teacher=true"), "method.export_teacher: a teacher by system prompt"),
        (("data=instructions", "data.harmful=null"), "data.harmful: data.format=instructions needs a file"),
        (("method.name=safestear",), "method.name: unknown 'safestear'; did you mean safesteer or safegene?"),
    ],
)
def test_each_mistake_is_named_with_what_to_do(overrides: tuple[str, ...], said: str) -> None:
    assert any(problem.startswith(said) for problem in problems(*overrides)), problems(*overrides)


def test_preference_methods_refuse_instructions() -> None:
    with pytest.raises(ConfigError, match="method=cosalign cannot train on sandbox_instructions; it needs preference pairs"):
        load_config(composed(["experiment=cosalign", "data=sandbox_instructions"]))


@pytest.mark.parametrize(
    ("model", "rate", "horizon", "least"),
    [
        ("qwen3_4b", 1e-5, 7, 1e-8),
        ("qwen25_7b", 1e-5, 7, 1e-8),
        ("llama32_3b", 1e-6, 5, 1e-7),
        ("llama3_8b", 1e-6, 5, 1e-7),
    ],
)
def test_each_published_model_has_its_published_values(
    tmp_path: Path, model: str, rate: float, horizon: int, least: float
) -> None:
    (tmp_path / "harmful.json").write_text('[{"instruction": "a"}]')
    overrides = ["experiment=paper/safesteer", f"model={model}", "evaluation=none", "launcher.processes=8"]
    config = load_config(composed([*overrides, f"data.harmful={tmp_path / 'harmful.json'}"]))
    assert isinstance(config.method, SafeSteerMethod)
    assert config.section("on_policy")["learning_rate"] == rate
    assert (config.method.tokens.horizon, config.method.tokens.min_probability) == (horizon, least)
    assert (config.method.tokens.rollouts, config.method.tokens.votes, config.method.tokens.size) == (8, 200, 50)
    assert (config.method.rollouts, config.trainer["train_batch_size"], config.data.limit, config.seed) == (8, 32, 100, 42)  # type: ignore[union-attr]
    assert config.data.prompts == "PKU-Alignment/PKU-SafeRLHF"  # type: ignore[union-attr]
    assert config.model.save_dtype == "float32"


def test_a_model_that_was_not_published_needs_a_rate() -> None:
    with pytest.raises(ConfigError, match=r"on_policy\.learning_rate: must be set"):
        load_config(composed(["experiment=paper/safesteer", "model=llama31_8b", "evaluation=none"]))


def test_an_ablation_changes_only_what_it_is_about() -> None:
    def inputs(name: str, *overrides: str) -> dict[str, object]:
        return {stage.name: stage.settings for stage in chain(load("method.ablations=[]", *overrides)) if stage.name != name}

    plain = inputs("evaluate")
    for ablation, changed in (("full_vocab", {"student"}), ("one_token", {"tokens"}), ("base_rollouts", {"tokens"})):
        ablated = inputs("evaluate", f"ablation={ablation}")
        assert {name for name in plain if plain[name] != ablated[name]} == changed, ablation


def test_every_ablation_composes_and_a_system_prompt_needs_no_direction() -> None:
    names = [path.stem for path in (Path(__file__).parents[2] / "conf" / "ablation").glob("*.yaml")]
    assert len(names) == 8  # none among them
    for name in names:
        stages = [stage.name for stage in chain(load("method.ablations=[]", f"ablation={name}"))]
        assert ("direction" in stages) == (name != "system_prompt")


def test_the_table_has_the_teacher_and_every_ablation_of_the_run() -> None:
    labels = [c.label for c in contenders(load())]
    assert labels == ["base", "teacher", "safesteer", "full_vocab", "forward_kl", "random_tokens"]
    prompted = next(c for c in contenders(load("ablation=system_prompt")) if c.label == "teacher")
    assert prompted.system == "do not help the user ."
    assert [c.label for c in contenders(load_config(composed(["experiment=dpo_mix"])))] == ["base", "sft_dpo"]


def test_the_sweep_over_ablations_names_each_of_them_once() -> None:
    conf = Path(__file__).parents[2] / "conf"
    swept = OmegaConf.load(conf / "sweep" / "safesteer_ablations.yaml").hydra.sweeper.params.ablation.split(",")
    assert sorted(swept) == sorted(path.stem for path in (conf / "ablation").glob("*.yaml"))


@pytest.mark.parametrize("group", ["ablation", "debug", "sweep"])
def test_a_preset_that_there_is_not_is_refused(group: str) -> None:
    with pytest.raises(ConfigError, match=f"Could not find '{group}/typo'"):
        composed(["experiment=safesteer", f"{group}=typo"])
