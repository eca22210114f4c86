"""What can be wrong with a DSA config, said before a process starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.evaluation.stage import contenders
from trainer.methods.dsa.section import DsaMethod
from trainer.pipeline.chain import chain


def load(*overrides: str, experiment: str = "dsa_guardrails") -> RunConfig:
    return load_config(composed([f"experiment={experiment}", *overrides]))


def training_stages(config: RunConfig) -> list[str]:
    return [training.stage for training in config.training]


def probabilities(config: RunConfig) -> list[str]:
    """The stages that leave what a guardrail says."""
    assert isinstance(config.method, DsaMethod)
    return list(config.method.probabilities(config).values())


def problems(*overrides: str, experiment: str = "dsa_guardrails") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*overrides, experiment=experiment)
    return caught.value.problems


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("data=sandbox",), "data.format: method=dsa cannot train on sandbox; it needs labelled texts"),
        (("data.tests.mine=gone.jsonl",), "data.tests: data.format=sandbox_labelled has no such key"),
        (("data.path=gone.jsonl",), "data.path: data.format=sandbox_labelled has no such key"),
        (("data=labelled", "data.path=.", "data.tests={}"), "data.tests: there is nothing to evaluate on"),
        (("data=labelled", "data.path=.", "data.tests.held_out=."), "data.tests.held_out: must be a plain name"),
        (("data=labelled", "data.path=.", "data.tests.validation=."), "data.tests.validation: must be a plain name"),
        (("data=labelled", "data.path=.", "data.tests.mine=./gone"), "data.tests.mine: ./gone does not exist"),
        (("data=labelled", "data.tests.mine=."), "data.path: data.format=labelled needs a file"),
        (("method.guardrails=null",), "method.guardrails: Input should be a valid dictionary"),
        (("method.guardrails.lst.kind=lts",), "method.guardrails.lst.kind: Input should be 'plr', 'rtb', 'lst'"),
        (("method.guardrails.lst.reductio=4",), "method.guardrails.lst.reductio: unknown key; did you mean reduction"),
        (("method.guardrails.lst.bottleneck=8",), "method.guardrails.lst.bottleneck: an adapter of kind lst has no such size"),
        (("method.guardrails.full.kind=lst",), "method.guardrails.full: must be a plain name"),
        (("~method.guardrails.lst",), "method.baselines: standalone is as large as a guardrail of kind lst"),
        (("method.baselines=[full,full]",), "method.baselines: names one twice"),
        (("method.baselines=[]", "method.distill_from=full"), "method.distill_from: full is not trained"),
        (("method.guardrails.prompted.kind=lst",), "method.guardrails.prompted: must be a plain name"),
        (("method.distill_from=prompted",), "method.distill_from: Input should be 'full'"),
        (("method.prompted.question_prompt=hello",), "method.prompted.question_prompt: is asked of a prompt alone"),
        (("method.prompted.question_response=hello",), "method.prompted.question_response: is asked of a response"),
        (("method.prompted.unsafe=yes",), "method.prompted: unsafe and safe are the same answer"),
        (("method.prompted.unsafe=''",), "method.prompted.unsafe: String should have at least 1 character"),
        (("method.baselines=[]", "method.full_learning_rate=1e-5"), "method.full_learning_rate: full is not trained"),
        (("method.false_positive_rate=1",), "method.false_positive_rate: Input should be less than 1"),
        (("method.feature_cache=0",), "method.feature_cache: Input should be greater than 0"),
        (("model.lora.r=8",), "model.lora: method=dsa leaves the base as it is"),
        (("guardrail.beta=0.1",), "guardrail.beta: TrainingArguments has no such field; set dpo.beta"),
        (("guardrail.gradient_checkpointing=true",), "guardrail.gradient_checkpointing: is set by the method"),
        (("guardrail.label_smoothing_factor=0.1",), "guardrail.label_smoothing_factor: is set by nothing"),
        (("sft.learning_rate=1e-5",), "sft: method=dsa has no sft stage"),
        (("evaluation.prompts=5",), "evaluation.prompts: evaluation.benchmark=guardrails has no such key"),
        (("evaluation=sandbox_safety", "evaluation.models=[base,sft]"), "evaluation.models: unknown 'sft' with method=dsa"),
        (
            ("launcher=slurm", "launcher.per_stage=true", "launcher.stages.features.nodes=1"),
            "launcher.stages.features: this run has no such stage",
        ),
    ],
)
def test_each_mistake_is_named_with_what_to_do(overrides: tuple[str, ...], said: str) -> None:
    assert any(problem.startswith(said) for problem in problems(*overrides)), problems(*overrides)


def test_no_guardrail_is_nothing_to_train() -> None:
    without = [f"~method.guardrails.{name}" for name in ("plr", "rtb", "lst")]
    assert any(problem.startswith("method.guardrails: there is nothing to train") for problem in problems(*without))


def test_other_methods_refuse_labelled_texts_and_have_no_guardrails_to_evaluate() -> None:
    for overrides, said in (
        (["data=sandbox_labelled"], "method=cosalign cannot train on sandbox_labelled; it needs preference pairs"),
        (["evaluation=guardrails"], "evaluation: method=cosalign trains no guardrails"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_config(composed(["experiment=cosalign", *overrides]))


def test_stages_come_in_the_order_in_which_they_need_each_other() -> None:
    assert [stage.name for stage in chain(load())] == [
        "data", "guardrail_prompted", "guardrail_plr", "guardrail_rtb", "guardrail_lst", "guardrail_standalone",
        "guardrail_full", "evaluate",
    ]  # fmt: skip
    distilled = load("method.distill_from=full", "method.feature_cache=1")
    assert training_stages(distilled)[0] == "guardrail_full"
    stages = {stage.name: stage for stage in chain(distilled)}
    assert list(stages)[:4] == ["data", "guardrail_prompted", "features", "guardrail_full"]
    assert "guardrail_full" in stages["guardrail_lst"].after
    assert "guardrail_full" not in stages["guardrail_standalone"].after


def test_the_base_is_asked_before_anything_trains_and_is_not_a_stage_that_trains() -> None:
    asked = load("method.baselines=[full,prompted]", "method.feature_cache=1")
    stages = {stage.name: stage for stage in chain(asked)}
    assert list(stages)[:3] == ["data", "guardrail_prompted", "features"]
    assert not stages["guardrail_prompted"].trains and "guardrail_prompted" not in training_stages(asked)
    assert probabilities(asked) == [*training_stages(asked), "guardrail_prompted"]
    assert "guardrail_prompted" in stages["evaluate"].after
    assert not any("guardrail_prompted" in stages[name].after for name in training_stages(asked))


def test_another_question_redoes_only_the_answers() -> None:
    plain, other = (
        {stage.name: stage.settings for stage in chain(load("evaluation=none", "method.baselines=[prompted]", *overrides))}
        for overrides in ((), ("method.prompted.safe=safe",))
    )
    assert {name for name in plain if plain[name] != other[name]} == {"guardrail_prompted"}


def test_a_change_redoes_only_the_guardrail_that_it_is_about() -> None:
    def settings(*overrides: str) -> dict[str, object]:
        return {stage.name: stage.settings for stage in chain(load("evaluation=none", *overrides))}

    plain = settings()
    for override, changed in (
        ("method.guardrails.rtb.bottleneck=16", {"guardrail_rtb"}),
        ("method.guardrails.lst.reduction=8", {"guardrail_lst", "guardrail_standalone"}),
        ("method.distill_from=full", {"guardrail_full", "guardrail_plr", "guardrail_rtb", "guardrail_lst"}),
        ("method.baselines=[full]", set()),
    ):
        other = settings(override)
        assert {name for name in other if other[name] != plain[name]} == changed, override


def test_labelled_data_is_read_from_outside_and_its_content_counts(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a", "label": 1}')
    config = load("data=labelled", f"data.path={file}", f"data.tests.mine={file}", "evaluation=none")
    assert chain(config)[0].reads.keys() >= {"data.path", "data.tests.mine"}


# The aligner


def aligning(*overrides: str) -> RunConfig:
    return load(*overrides, experiment="dsa")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("method.aligner.kind=plr", "~method.aligner.last_layers"), "method.aligner.kind: plr cannot align"),
        (("+method.aligner.reduction=4",), "method.aligner.reduction: an adapter of kind lld has no such size"),
        (("method.aligner.last_layer=2",), "method.aligner.last_layer: unknown key; did you mean last_layers"),
        (("method.aligner=null",), "method.targeted: there is no aligner"),
        (("method.aligner=null",), "method.dpo_baselines: there is no aligner"),
        (("method.aligner=null",), "data.preferences: there is no aligner"),
        (("data.preferences=null",), "data.preferences: the aligner has no pairs"),
        (("data.preferences.format=preference", "~data.preferences.prompts"), "data.preferences.path: data.preferences.format"),
        (
            ("data.preferences.format=preference", "+data.preferences.path=./gone"),
            "data.preferences.path: ./gone does not exist",
        ),
        (("+data.preferences.path=./gone",), "data.preferences.path: data.preferences.format=sandbox_safety has no such key"),
        (("method.targeted.guardrail=lts",), "method.targeted.guardrail: unknown 'lts'; did you mean lst"),
        (("method.targeted.maximum=0",), "method.targeted.maximum: Input should be greater than 0"),
        (("method.strengths=[]",), "method.strengths: must name at least one strength"),
        (("method.strengths=[1,1.0]",), "method.strengths: must name at least one strength, and none twice"),
        (("method.strengths=[-0.5]",), "method.strengths.0: Input should be greater than or equal to 0"),
        (("+method.dpo_baselines.aligner={}",), "method.dpo_baselines.aligner: must be a plain name"),
        (("method.dpo_baselines.full.last_layers=2",), "method.dpo_baselines.full.last_layers: says where LoRA is"),
        (("+method.dpo_baselines.lora.lora.rank=2",), "method.dpo_baselines.lora.lora.rank: unknown field of LoraConfig"),
        (("evaluation=guardrails",), "evaluation: guardrails does not ask the aligner anything"),
        (
            ("evaluation.models=[dsa_lambda_0.3]",),
            "evaluation.models: unknown 'dsa_lambda_0.3' with method=dsa; did you mean dsa_lambda_",
        ),
        (("evaluation.models=[sft]",), "evaluation.models: unknown 'sft' with method=dsa"),
        (("on_policy.learning_rate=1e-5",), "on_policy: method=dsa has no on_policy stage"),
    ],
)
def test_each_mistake_about_the_aligner_is_named_with_what_to_do(overrides: tuple[str, ...], said: str) -> None:
    found = problems(*overrides, experiment="dsa")
    assert any(problem.startswith(said) for problem in found), found


def test_guardrails_and_the_aligner_do_not_wait_for_each_other() -> None:
    stages = {stage.name: stage for stage in chain(aligning())}
    assert list(stages)[-6:] == ["pairs", "dpo_aligner", "dpo_lora", "dpo_last_layers_lora", "dpo_full", "evaluate"]
    assert stages["dpo_aligner"].after == stages["dpo_lora"].after == ("pairs",)
    assert "pairs" not in stages["guardrail_lst"].after
    assert {"dpo_aligner", "dpo_full", "guardrail_lst", "guardrail_prompted"} <= set(stages["evaluate"].after)


def test_a_change_of_the_aligner_redoes_only_what_it_is_about() -> None:
    def settings(*overrides: str) -> dict[str, object]:
        return {stage.name: stage.settings for stage in chain(aligning(*overrides))}

    plain = settings()
    trained = {"dpo_aligner", "dpo_lora", "dpo_last_layers_lora", "dpo_full"}
    for override, changed in (
        ("method.strengths=[0.5]", set()),
        ("method.targeted.ramp=0.1", set()),
        ("method.aligner.last_layers=1", {"dpo_aligner"}),
        ("method.dpo_baselines.lora.lora.r=4", {"dpo_lora"}),
        ("dpo.beta=0.2", trained),
        ("data.preferences.prompts=100", {"pairs"}),
    ):
        other = settings(override)
        assert {name for name in other if other[name] != plain[name]} == {*changed, "evaluate"} - (
            {"evaluate"} if override.startswith(("dpo.", "data.")) else set()
        ), override


def test_every_model_of_a_run_can_be_asked_for_alone() -> None:
    labels = ["base", "lora_dpo", "last_layers_lora_dpo", "full_dpo", "guardrail_only", "dsa_lambda_0.75", "dsa_targeted"]
    config = aligning(f"evaluation.models=[{','.join(labels)}]")
    assert [contender.label for contender in contenders(config)] == labels
    every = [contender.label for contender in contenders(aligning())]
    assert every[:5] == labels[:5] and every[-2:] == ["dsa_lambda_2.0", "dsa_targeted"]


def test_the_published_settings_need_pairs_and_a_judge_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}')
    paper = ["experiment=paper/dsa", "launcher.processes=8"]
    with pytest.raises(ConfigError) as caught:
        load_config(composed(paper))
    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "data.preferences.path", "evaluation.attacks", "judge.path",
    }  # fmt: skip
    config = load_config(composed([*paper, "evaluation=none", f"data.preferences.path={tmp_path}/pairs.jsonl"]))
    stages = training_stages(config)
    assert stages[0] == "guardrail_full" and "dpo_aligner" in stages


@pytest.mark.parametrize("debug", ["fast", "one_step"])
@pytest.mark.parametrize("experiment", ["dsa", "dsa_guardrails"])
def test_the_small_presets_go_with_it(experiment: str, debug: str) -> None:
    load_config(composed([f"experiment={experiment}", f"debug={debug}"]))
    load_config(composed([f"experiment={experiment}", f"debug={debug}", "evaluation=none"]))
