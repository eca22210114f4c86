"""Every field of the libraries' classes is passed through, set by something else, or refused with a reason; and a version with
another field fails here until somebody has said what becomes of it."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Iterable
from typing import Any

import pytest
from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainingArguments

from trainer.compose import composed
from trainer.config import lora, quantization, zero_fields
from trainer.config.fields import CHOICES, PASSED, RANGES, SET_ELSEWHERE
from trainer.config.load import load_config
from trainer.config.training import SECTIONS, config_class, passed_fields
from trainer.errors import ConfigError


def fields_of(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if field.init}


def test_training_arguments() -> None:
    ours = {"model_init_kwargs", "trust_remote_code"}  # of TRL's classes, all of which have them
    assert fields_of(TrainingArguments) == PASSED | SET_ELSEWHERE.keys() - ours
    assert not PASSED & SET_ELSEWHERE.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_what_a_trainer_adds(section: str) -> None:
    own, fields = SECTIONS[section], fields_of(config_class(section))
    refused = {name for name in fields if own.sets(name) or name in SET_ELSEWHERE}
    assert fields == passed_fields(section) | refused
    assert not passed_fields(section) & refused
    assert not own.passed & PASSED
    for name in own.derived:
        assert any(own.sets(field) == own.derived[name] for field in fields), f"{name} is no field"
    assert own.choices.keys() <= passed_fields(section)


def test_choices_and_ranges_are_of_fields() -> None:
    passed = {field for section in SECTIONS for field in passed_fields(section)}
    assert CHOICES.keys() | RANGES.keys() <= passed


def test_lora_and_quantization() -> None:
    assert fields_of(LoraConfig) | {"inference_mode"} == lora.PASSED | lora.DERIVED.keys()
    given = {name for name, one in inspect.signature(BitsAndBytesConfig).parameters.items() if one.kind is not one.VAR_KEYWORD}
    assert given == quantization.PASSED | quantization.REFUSED.keys()


class Asked(dict[str, Any]):
    """A section of DeepSpeed's JSON that notes which keys are looked up in it."""

    def __init__(self, values: dict[str, Any]):
        super().__init__({k: Asked(v) if isinstance(v, dict) else v for k, v in values.items()})
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def keys(self) -> Any:
        return self

    def __copy__(self) -> Asked:
        return self


def test_deepspeed() -> None:
    logging.disable(logging.WARNING)  # importing it on a machine without a GPU warns about that
    from deepspeed.runtime.config import DeepSpeedConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    logging.disable(logging.NOTSET)
    sections: dict[str, dict[str, Any]] = {name: {} for name, keys in zero_fields.PASSED.items() if keys is not None}
    asked = Asked({**sections, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1})
    DeepSpeedConfig(asked)
    assert asked.names <= zero_fields.PASSED.keys() | zero_fields.DERIVED.keys()
    for name, keys in zero_fields.PASSED.items():
        if keys is not None:
            derived = {key.partition(".")[2] for key in zero_fields.DERIVED if key.startswith(f"{name}.")}
            assert dict.__getitem__(asked, name).names == keys | derived, name
    assert set(DeepSpeedZeroConfig.model_fields) == zero_fields.ZERO_PASSED | zero_fields.ZERO_DERIVED.keys()


def test_a_field_that_a_new_version_brings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Newer(config_class("sft")):  # type: ignore[misc]
        shuffle_layers: bool = False

    monkeypatch.setitem(SECTIONS, "sft", dataclasses.replace(SECTIONS["sft"], fields_of="tests.config.test_fields:newer"))
    monkeypatch.setitem(globals(), "newer", Newer)
    from trainer.config.training import _fields

    _fields.cache_clear()
    with pytest.raises(ConfigError, match=r"sft\.shuffle_layers: is new in this version of Newer"):
        load_config(composed(["experiment=sft", "sft.shuffle_layers=true"]))
    _fields.cache_clear()


# What is set -> how one of the problems begins, and what it advises.
# fmt: off
VALUES = [
    ("experiment=sft trainer.eval_strategy=steps", "trainer.eval_strategy: no rows are held out", "data.validation"),
    ("experiment=dsa_guardrails evaluation=none guardrail.eval_steps=5", "guardrail.eval_steps: no rows are held out", ""),
    ("experiment=sft data.validation=0.1 trainer.eval_strategy=no", "trainer.eval_strategy: must be one of steps, epoch", ""),
    ("experiment=sft data.validation=0.1 trainer.eval_steps=0", "trainer.eval_steps: ", "greater than 0"),
    ("experiment=sft data.validation=0.1 trainer.eval_steps=2.5", "sft: --eval_steps must be an integer", ""),
    ("experiment=sft data.validation=1.5", "data.validation: must be a share between 0 and 1, a whole number, or a file", ""),
    ("experiment=sft data.validation=0", "data.validation: must be a share between 0 and 1, a whole number, or a file", ""),
    ("experiment=sft data.validation=held.jsonl", "data.validation: sandbox names no file", ""),
    ("experiment=sft data.validation_split=dev", "data.validation_split: there is no data.validation", ""),
    ("experiment=sft trainer.load_best_model_at_end=true", "trainer.load_best_model_at_end: ", "evaluation group"),
    ("experiment=sft trainer.save_strategy=best", "trainer.save_strategy: must be one of no, steps, epoch", ""),
    ("experiment=sft trainer.optim=adamw_8bit", "sft.optim: ", "bitsandbytes"),
    ("experiment=sft trainer.optim=galore_adamw", "trainer.optim: must be one of adamw_torch", ""),
    ("experiment=sft sft.optim=rmsprop sft.adam_beta1=0.8", "sft.adam_beta1: rmsprop does not read it", ""),
    ("experiment=sft sft.optim_args='amsgrd=1'", "sft.optim: does not read amsgrd", ""),
    ("experiment=sft deepspeed=zero2_offload sft.optim=sgd", "sft.optim: sgd would become DeepSpeed's CPU Adam", "adamw_torch"),
    ("experiment=sft trainer.logging_steps=0", "trainer.logging_steps: ", "greater than 0"),
    ("experiment=sft trainer.save_steps=0", "trainer.save_steps: ", "greater than 0"),
    ("experiment=sft sft.learning_rate=-1", "sft.learning_rate: ", "greater than or equal to 0"),
    ("experiment=sft sft.weight_decay=\"1e-3\"", "sft.weight_decay: must be float, and is written as str", ""),
    ("experiment=sft trainer.lr_scheduler_type=cosine_with_min_lr", "sft.lr_scheduler_type: ", "min_lr"),
    ("experiment=sft trainer.dataloader_prefetch_factor=2", "sft: ", "dataloader_num_workers"),
    ("experiment=sft trainer.dataloader_persistent_workers=true", "sft.dataloader_num_workers: ", "num_workers > 0"),
    ("experiment=sft deepspeed=zero2 trainer.ddp_bucket_cap_mb=25", "sft.ddp_bucket_cap_mb: ", "deepspeed=none"),
    ("experiment=sft trainer.ddp_timeout=60", "trainer.ddp_timeout: is set by survival.hang_timeout", ""),
    ("experiment=sft trainer.chat_template_path=no/such.jinja", "trainer.chat_template_path: ", "model.tokenizer"),
    ("experiment=sft sft.padding_free=true", "sft.padding_free: ", "sft.packing=true"),
    ("experiment=sft sft.packing=true sft.max_length=null", "sft.packing: ", "sft.max_length"),
    ("experiment=sft sft.loss_type=chunked_nll", "sft.loss_type: must be one of nll, dft", ""),
    ("experiment=sft trainer.use_liger_kernel=true", "trainer.use_liger_kernel: ", ""),
    ("experiment=sft trainer.parallelism_config={}", "trainer.parallelism_config: ", "deepspeed group"),
    ("experiment=dpo dpo.padding_free=true", "dpo.padding_free: ", "TRL has switched it off"),
    ("experiment=dpo dpo.loss_type=[nonsense]", "dpo.loss_type: must be one of sigmoid", ""),
    ("experiment=dpo dpo.loss_type=[exo_pair]", "dpo.label_smoothing: ", "0.001"),
    ("experiment=dpo dpo.loss_type=[sigmoid,sft] dpo.loss_weights=[1.0]", "dpo.loss_weights: 1 weights for 2 losses", ""),
    ("experiment=dpo dpo.train_sampling_strategy=group_by_length", "dpo.train_sampling_strategy: must be one of random", ""),
    ("experiment=dpo dpo.sync_ref_model=true", "dpo.sync_ref_model: ", "dpo.precompute_ref_log_probs=false"),
    ("experiment=dpo dpo.ref_model_sync_steps=8", "dpo.ref_model_sync_steps: does nothing without", ""),
    ("experiment=dsa dpo.sync_ref_model=true", "dpo.sync_ref_model: an aligner's reference is the base", ""),
    ("experiment=sft deepspeed.communication_data_type=fp32", "deepspeed.communication_data_type: ", "model.dtype"),
    ("experiment=sft deepspeed=zero2 deepspeed.aio.blok_size=1", "deepspeed.aio.blok_size: unknown key", "block_size"),
    ("experiment=sft deepspeed=zero3 deepspeed.zero_optimization.stage3_gather_16bit_weights_on_model_save=false",
     "deepspeed.zero_optimization.stage3_gather_16bit_weights_on_model_save: ", "set true"),
    ("experiment=sft deepspeed=zero2 deepspeed.zero_optimization.cpu_offload=true",
     "deepspeed.zero_optimization.cpu_offload: is set by offload_optimizer", ""),
    ("experiment=sft deepspeed=zero2 deepspeed.comms_logger.enabledd=true", "deepspeed: DeepSpeed refuses it: ", "enabledd"),
]
# fmt: on


@pytest.mark.parametrize(("overrides", "begins", "says"), VALUES, ids=[case[0] for case in VALUES])
def test_a_value_that_would_be_ignored_or_fail_on_the_ranks_is_refused(overrides: str, begins: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(composed(overrides.split()))
    assert any(line.startswith(begins) and says in line for line in caught.value.problems), caught.value.problems


PASS = (
    "sft.optim=rmsprop sft.optim_args='alpha=0.9'",
    "deepspeed=zero2_offload sft.optim=adamw_torch sft.adam_beta1=0.8",
    "sft.packing=true",
    "data.validation=0.1 trainer.eval_steps=0.25 trainer.eval_delay=2 sft.eval_on_start=true",
    "data.validation=200 trainer.eval_strategy=epoch",
    "trainer.save_total_limit=null",
    "trainer.save_total_limit=0",
    "trainer.dataloader_num_workers=2 trainer.dataloader_prefetch_factor=2",
    "trainer.lr_scheduler_type=cosine_with_min_lr sft.lr_scheduler_kwargs={min_lr_rate: 0.1}",
    "sft.train_sampling_strategy=group_by_length",
    "deepspeed=none trainer.ddp_bucket_cap_mb=25",
    "deepspeed=zero2 deepspeed.aio.block_size=1048576 deepspeed.wall_clock_breakdown=true",
)


@pytest.mark.parametrize("overrides", PASS)
def test_what_works_is_passed(overrides: str) -> None:
    parts: Iterable[str] = overrides.replace("{min_lr_rate: 0.1}", "{min_lr_rate:0.1}").split()
    load_config(composed(["experiment=sft", *parts]))
