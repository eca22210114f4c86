"""Bad input and what a user is told about it. The tables are the documentation of the messages.

Every error here is one for the user (exit status 2: a scheduler need not try again). A config problem is found before any
process starts and reads `key: what; do this`; a data problem names the file and the row.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data.reading import read
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.config.sections import ModelSection
from trainer.config.shipped import BASE_DIR
from trainer.config.stage import Stage
from trainer.config.training import accumulation_steps, stage_fields
from trainer.errors import ArtifactError, ConfigError, DataError, KeelError
from trainer.methods.pairs import stage as data_stage
from trainer.models.load import load_model, load_tokenizer, write_fresh_model
from trainer.pipeline.context import StageContext
from trainer.pipeline.lock import LOCK
from trainer.pipeline.run import CONFIG, claim_directory

EXPERIMENTS = ("cosalign", "sft", "dpo", "safesteer")


def load(overrides: str, base_dir: Path) -> RunConfig:
    """What `python -m trainer OVERRIDES` does until the first process would start."""
    return load_config(composed(overrides.split()), base_dir)


def problems(overrides: str, base_dir: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(overrides, base_dir)
    assert caught.value.exit_code == 2
    return caught.value.problems


# ---------------------------------------------------------------------------------------------------------------- configs
# What stands on the command line -> how one line of the ConfigError begins.
# fmt: off
BAD_CONFIGS = [
    # keys that do not exist: the nearest that does
    ("modle.path=sandbox", r"modle: unknown key; did you mean model\?"),
    ("model.pth=sandbox", r"model\.pth: unknown key; did you mean path\?"),
    ("model.lora.rank=8", r"model\.lora\.rank: unknown field of LoraConfig"),
    ("trainer.learning_rat=1e-3", r"trainer\.learning_rat: unknown field of SFTConfig; did you mean learning_rate\b"),
    ("experiment=dpo trainer.bta=0.1", r"trainer\.bta: unknown field of DPOConfig; did you mean beta\?"),
    ("deepspeed.zero_optimisation.stage=2", r"deepspeed\.zero_optimisation: unknown key; did you mean zero_optimization\?"),
    ("deepspeed.zero_optimization.stge=1", r"deepspeed\.zero_optimization\.stge: unknown key; did you mean stage\?"),
    # values of the wrong type or outside their range
    ("seed=abc", r"seed: .*valid integer.* \(got 'abc'\)"),
    ("seed=-1", r"seed: .*greater than or equal to 0 \(got -1\)"),
    ("method.name=ppo", r"method\.name: unknown 'ppo'; did you mean dpo"),
    ("launcher.processes=0", r"launcher\.processes: .*greater than 0 \(got 0\)"),
    ("trainer.max_steps=1.5", r"trainer\.max_steps: .*valid integer.* \(got 1\.5\)"),
    ("experiment=sft trainer.learning_rate=fast", r"trainer\.learning_rate: .*valid number.* \(got 'fast'\)"),
    ("experiment=sft trainer.lr_scheduler_type=cosinus",
     r"trainer\.lr_scheduler_type: must be one of linear, cosine, .* \(got 'cosinus'\)"),
    ("trainer.max_length=-5", r"trainer\.max_length: must be a positive integer \(got -5\)"),
    ("trainer.train_batch_size=0", r"trainer\.train_batch_size: must be a positive integer \(got 0\)"),
    ("trainer.per_device_train_batch_size=0", r"trainer\.per_device_train_batch_size: must be a positive integer \(got 0\)"),
    ("deepspeed.zero_optimization.stage=4", r"deepspeed\.zero_optimization\.stage: must be 0, 1, 2 or 3 \(got 4\)"),
    ("deepspeed.zero_optimization.reduce_bucket_size=many", r"deepspeed\.zero_optimization\.reduce_bucket_size: .*integer"),
    ("deepspeed.zero_optimization=2", r"deepspeed\.zero_optimization: "),
    # values that contradict one another
    ("launcher.processes=3", r"sft: train_batch_size=32 does not divide into 3 processes x per_device_train_batch_size=16; "),
    ("trainer.train_batch_size=24 launcher.processes=2",
     r"sft: train_batch_size=24 does not divide .*; per_device_train_batch_size can be 1, 2, 3, 4, 6, 12\."),
    ("trainer.gradient_accumulation_steps=4",
     r"sft: gradient_accumulation_steps=4 contradicts train_batch_size=32, which needs 2; set one of the two\."),
    ("trainer.learning_rate=1e-4", r"trainer\.learning_rate: also set as sft\.learning_rate, .*not both"),
    ("trainer.bf16=true", r"sft: bf16=True and model\.dtype=float32 disagree; leave bf16 out"),
    ("trainer.fp16=true", r"sft: fp16 is not supported here; use bf16=true with model\.dtype=bfloat16, or fp32"),
    # what the run derives and nobody sets
    ("trainer.output_dir=/tmp/x", r"trainer\.output_dir: is set by run\.name and paths\.runs; remove it here"),
    ("dpo.seed=3", r"dpo\.seed: is set by seed; remove it here"),
    ("deepspeed.bf16.enabled=true", r"deepspeed\.bf16: is derived from "),
    ("deepspeed.optimizer.type=Adam", r"deepspeed\.optimizer: is derived from trainer\.optim; set that instead"),
    # what this method, model or ZeRO stage does not have
    ("experiment=sft dpo.beta=0.1", r"dpo: method=sft has no dpo stage; remove this section"),
    ("experiment=sft evaluation.models=[sft_dpo]",
     r"evaluation\.models: unknown 'sft_dpo' with method=sft"),
    ("deepspeed=zero0 model.dtype=bfloat16", r"deepspeed: ZeRO stage 0 in bf16 .*; use deepspeed=zero1, .*float32"),
    ("deepspeed.zero_optimization.offload_param.device=cpu",
     r"deepspeed\.zero_optimization\.offload_param: needs ZeRO stage 3, this is 2; use deepspeed=zero3_offload"),
    ("deepspeed=zero0 deepspeed.zero_optimization.offload_optimizer.device=cpu",
     r"deepspeed\.zero_optimization\.offload_optimizer: needs ZeRO stage 1 to 3; use deepspeed=zero2_offload"),
    ("deepspeed=zero3 dpo.sync_ref_model=true", r"dpo\.sync_ref_model: .*ZeRO stage 3 holds shards; use deepspeed=zero2 or "),
    # models, data and judges that are not there
    ("model.path=./no/such", r"model\.path: \./no/such does not exist \(looked from .*\); give an existing path or a hub name"),
    ("model.path=null", r"model: set exactly one of model\.path and model\.random_init"),
    ("model.random_init.model_type=llama", r"model: set exactly one of model\.path and model\.random_init"),
    ("model=random_llama", r"model\.tokenizer: fresh weights come without one; give a tokenizer directory or hub name"),
    ("model=random_llama model.random_init.model_type=lama",
     r"model\.random_init\.model_type: transformers has no model type 'lama'"),
    ("model.tokenizer=./no/such", r"model\.tokenizer: \./no/such does not exist"),
    ("data=preference", r"data\.path: data\.format=preference needs a file, a directory or a hub name"),
    ("data=preference data.path=./no/such.jsonl", r"data\.path: \./no/such\.jsonl does not exist"),
    ("data.path=./some.jsonl", r"data\.path: data\.format=sandbox has no such key; remove it, or choose one that has it"),
    ("evaluation=cosapien", r"evaluation\.guidelines: evaluation\.benchmark=cosapien needs it; give a path"),
    ("judge=model", r"judge\.path: judge=model needs the judge's model directory or hub name"),
    ("trainer.max_length=600", r"sft: max_length: makes sequences of 600 tokens, and the model has positions for 512"),
    ("model.template_date=yesterday", r"model\.template_date: .*\(got 'yesterday'\)"),
    ("model.save_dtype=float16", r"model\.save_dtype: .*\(got 'float16'\)"),
    # where the run is written
    ("run.name=../evil", r"run\.name: '\.\./evil' must be a plain name: "),
    ("run.name=/tmp/evil", r"run\.name: '/tmp/evil' must be a plain name: "),
    ("run.name=.", r"run\.name: '\.' must be a plain name: "),
    ("paths.runs=/dev/null/x", r"paths\.runs: cannot write in /dev/null; choose a directory you can write to"),
]
# fmt: on


@pytest.mark.parametrize(("overrides", "message"), BAD_CONFIGS, ids=[case[0] for case in BAD_CONFIGS])
def test_a_bad_config_is_refused_with_the_key_the_reason_and_what_to_do(overrides: str, message: str, tmp_path: Path) -> None:
    found = problems(overrides, tmp_path)
    assert any(re.match(message, line) for line in found), found


@pytest.mark.parametrize("key", ["model.path", "judge.path"])
def test_an_adapter_is_no_model(key: str, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "a/base"}')
    (adapter / "adapter_model.safetensors").write_text("")
    overrides = f"{key}={adapter} run.name=../evil" + (" judge=model" if key == "judge.path" else "")
    found = problems(overrides, tmp_path)
    assert any(
        line.startswith(f"{key}: {adapter} is an adapter, not a model (its base: a/base); give a model") for line in found
    )
    (adapter / "model.safetensors").write_text("")  # a merged model that keeps the adapter's config is one
    assert not any("is an adapter" in line for line in problems(overrides, tmp_path))


@pytest.mark.parametrize("preset", ["", " debug=fast", " debug=one_step"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_shipped_experiments_have_no_problem(experiment: str, preset: str, tmp_path: Path) -> None:
    """The control of the table above: without the mistake nothing is refused."""
    assert load(f"experiment={experiment}{preset}", tmp_path).method.name == experiment


def test_the_published_settings_are_those_of_the_paper(tmp_path: Path) -> None:
    config = load("experiment=paper/cosalign evaluation=none launcher.processes=8", tmp_path)
    dpo = stage_fields(config, config.training[1])
    expected = {"beta": 0.1, "learning_rate": 5e-7, "optim": "rmsprop", "warmup_steps": 150, "num_train_epochs": 3}
    assert {name: dpo[name] for name in expected} == expected
    assert dpo["lr_scheduler_type"] == "constant_with_warmup"
    assert (dpo["max_length"], config.data.max_prompt_length, dpo["max_grad_norm"]) == (640, 512, 10.0)
    assert dpo["per_device_train_batch_size"] * accumulation_steps(config, config.training[1], 8) * 8 == 32
    assert config.model.path == "meta-llama/Llama-3.1-8B-Instruct"
    assert config.model.dtype == "bfloat16"


def test_all_problems_are_shown_at_once(tmp_path: Path) -> None:
    found = problems("model.path=./no launcher.processes=3 deepspeed.zero_optimization.stge=1 run.name=../evil", tmp_path)
    beginnings = (
        "model.path:",
        "sft: train_batch_size",
        "dpo: train_batch_size",
        "deepspeed.zero_optimization.stge:",
        "run.name:",
    )
    for beginning in beginnings:
        assert sum(line.startswith(beginning) for line in found) == 1, (beginning, found)
    assert len(found) == len(beginnings)


def test_wrong_types_and_unknown_keys_are_shown_at_once(tmp_path: Path) -> None:
    found = problems("seed=abc model.pth=x trainr.x=1 launcher.processes=-1", tmp_path)
    assert sorted(line.split(":")[0] for line in found) == ["launcher.processes", "model.pth", "seed", "trainr"]


def test_a_wrong_type_does_not_hide_the_other_problems(tmp_path: Path) -> None:
    """Otherwise a user repairs the seed, queues again, and learns of the next mistake only then."""
    found = problems("seed=abc model.path=./no trainer.learning_rat=1 run.name=../evil", tmp_path)
    assert {line.split(":")[0] for line in found} >= {"seed", "model.path", "trainer.learning_rat", "run.name"}, found


@pytest.mark.parametrize("field", ["trainer.per_device_train_batch_size", "trainer.train_batch_size"])
def test_a_wrong_batch_size_is_reported_by_its_key_alone(field: str, tmp_path: Path) -> None:
    """No second line that speaks Python ("invalid literal for int() with base 10")."""
    found = problems(f"{field}=many", tmp_path)
    assert [line.split(":")[0] for line in found] == [field], found


# What was tried -> a part of the advice that helps, and one that would lead into the next error.
# fmt: off
ADVICE = [
    ("trainer.beta=0.2", "dpo.beta", "sft.beta"),                               # SFTConfig has no beta
    ("deepspeed.bf16.enabled=true", "model.dtype", "derived from trainer.bf16"),  # which then contradicts model.dtype
    ("deepspeed.fp16.enabled=true", "model.dtype", "derived from trainer.fp16"),  # which is never supported
]
# fmt: on


@pytest.mark.parametrize(("overrides", "helps", "misleads"), ADVICE, ids=[case[0] for case in ADVICE])
def test_advice_can_be_followed(overrides: str, helps: str, misleads: str, tmp_path: Path) -> None:
    text = "\n".join(problems(overrides, tmp_path))
    assert helps in text, text
    assert misleads not in text, text


# ------------------------------------------------------------------------------------------------------------- data files
def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
COSALIGN = {"system_prompt": "s", "prompt": "p", "chosen_response": "x", "rejected_response": "y"}
HH = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
USER, ASSISTANT = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
ROW_2 = r"row 2: "

# What the case is, data.format, file name, content -> how the DataError begins.
# fmt: off
BAD_FILES = [
    ("a missing column", "preference", "f.jsonl", jsonl({"prompt": "a", "chosen": "b", "worse": "c"}),
     r"f\.jsonl: row 1: format preference needs column rejected; it has prompt, chosen, worse\. Rename"),
    ("the columns of another format", "cosalign", "f.jsonl", jsonl(PAIR),
     r"f\.jsonl: row 1: format cosalign needs columns system_prompt, chosen_response, rejected_response; it has prompt, "),
    ("an empty file", "preference", "f.jsonl", b"", r"f\.jsonl: is empty; give a dataset with at least one row"),
    ("a csv of a header alone", "preference", "f.csv", b"prompt,chosen,rejected\n",
     r"f\.csv: has no rows; give a dataset with at least one row"),
    ("an empty json list", "preference", "f.json", b"[]", r"f\.json: has no rows; give a dataset with at least one row"),
    ("an unknown extension", "preference", "f.txt", b"hello",
     r"f\.txt: no data file here; accepted: \.jsonl, \.json, \.csv, \.parquet"),
    ("a file cut short", "preference", "f.jsonl", jsonl(PAIR, PAIR)[:-9], r"f\.jsonl: row 2: is not JSON"),
    ("invalid json", "preference", "f.json", b'{"prompt": ', r"f\.json: cannot be read: Expecting value"),
    ("no gzip", "preference", "f.jsonl.gz", jsonl(PAIR), r"f\.jsonl\.gz: cannot be read: .*[Nn]ot a gzipped file"),
    ("no parquet", "preference", "f.parquet", jsonl(PAIR), r"f\.parquet: cannot be read: .*[Pp]arquet"),
    ("a gzip cut short", "preference", "f.jsonl.gz", gzip.compress(jsonl(PAIR) * 50)[:-20], r"f\.jsonl\.gz: cannot be read: "),
    ("no UTF-8", "preference", "f.jsonl", jsonl(PAIR) + jsonl({**PAIR, "prompt": "cafE"}).replace(b"E", b"\xe9"),
     r"f\.jsonl: cannot be read: .*utf-8"),
    ("an unknown risk category", "cosalign", "f.jsonl", jsonl(COSALIGN | {"spec_i": "--"}, COSALIGN | {"spec_i": "-Violense-"}),
     rf"f\.jsonl: {ROW_2}spec_i: unknown risk category in label '-Violense-' .*; did you mean Violence\?"),
    ("a risk label that is no text", "cosalign", "f.jsonl", jsonl(COSALIGN | {"spec_i": 5}),
     r"f\.jsonl: row 1: spec_i must be text, is int"),
    ("a cell that is no text", "cosalign", "f.jsonl", jsonl(COSALIGN, COSALIGN | {"prompt": None}),
     rf"f\.jsonl: {ROW_2}prompt must be text, is NoneType"),
    ("a transcript that is no text", "transcripts", "f.jsonl", jsonl(HH | {"chosen": 5}),
     r"f\.jsonl: row 1: chosen must be text, is int"),
    ("a transcript without turns", "transcripts", "f.jsonl", jsonl(HH, HH | {"chosen": "hello"}),
     rf"f\.jsonl: {ROW_2}transcript does not start with a Human: or Assistant: turn"),
    ("a number for a message", "preference", "f.jsonl", jsonl(PAIR | {"chosen": 5}),
     r"f\.jsonl: row 1: chosen must be text or a list of {role, content} messages"),
    ("a message without content", "preference", "f.jsonl", jsonl(PAIR | {"prompt": [{"role": "user"}]}),
     r"f\.jsonl: row 1: prompt: message 1: content must be text, is NoneType"),
    ("a message of an unknown role", "preference", "f.jsonl", jsonl(PAIR | {"prompt": [{"role": "robot", "content": "x"}]}),
     r"f\.jsonl: row 1: prompt: message 1: role is 'robot'; known: system, user, human, assistant, gpt"),
    ("a prompt without messages", "preference", "f.jsonl", jsonl(PAIR | {"prompt": []}),
     r"f\.jsonl: row 1: prompt must be text or a list of {role, content} messages"),
    ("a reply of two messages", "preference", "f.jsonl", jsonl(PAIR | {"chosen": [ASSISTANT, ASSISTANT]}),
     r"f\.jsonl: row 1: chosen must be text or one assistant message"),
    ("a reply by the user", "preference", "f.jsonl", jsonl(PAIR | {"chosen": [USER]}),
     r"f\.jsonl: row 1: chosen must be text or one assistant message"),
    ("a prompt that ends with a reply", "preference", "f.jsonl", jsonl(PAIR | {"prompt": [USER, ASSISTANT]}),
     r"f\.jsonl: row 1: prompt must end with a user"),
]
# fmt: on


@pytest.mark.parametrize(("format_", "name", "content", "message"), [c[1:] for c in BAD_FILES], ids=[c[0] for c in BAD_FILES])
def test_a_bad_data_file_is_refused_by_name_and_row(
    format_: Any, name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(format=format_, path=str(tmp_path / name))
    assert caught.value.exit_code == 2
    assert re.match(message, str(caught.value).removeprefix(f"{tmp_path}/"), re.DOTALL), str(caught.value)


def test_a_directory_without_data_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing to train on")
    with pytest.raises(DataError) as caught:
        read(format="preference", path=str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: no data file here; accepted: .jsonl, .json, .csv, .parquet"), caught.value


def test_a_directory_of_two_kinds_of_file_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(jsonl(PAIR))
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected\nx,y,z\n")
    pairs = read(format="preference", path=str(tmp_path)).pairs
    assert [pair.chosen for pair in pairs] == ["y", "b"]


def test_a_data_path_that_vanished_is_refused(tmp_path: Path) -> None:
    """The config was checked when the run started; the stage may start hours later."""
    with pytest.raises(DataError) as caught:
        read(format="preference", path=str(tmp_path / "gone.jsonl"))
    assert str(caught.value) == f"{tmp_path / 'gone.jsonl'}: does not exist."


# ------------------------------------------------------------------------------------------------- the data stage: lengths
def pair_of(words: int, chosen: str = "yes .") -> dict[str, Any]:
    """A prompt of this many sandbox words; with `<|user|>`, `<|end|>` and `<|assistant|>` it is three tokens longer."""
    return {"prompt": " ".join(["red"] * words), "chosen": chosen, "rejected": "no ."}


def run_data_stage(rows: list[dict[str, Any]], tmp_path: Path, *overrides: str) -> Path:
    """Prompts of up to 19 tokens leave room for a response in 20. Returns the stage directory."""
    (tmp_path / "rows.jsonl").write_bytes(jsonl(*rows))
    wanted = ["data=preference", f"data.path={tmp_path / 'rows.jsonl'}", "trainer.max_length=20", *overrides]
    context = StageContext(load(" ".join(wanted), tmp_path), tmp_path, Stage("data", ""), rank=0, world_size=1)
    with context:
        data_stage.run(context)
    return context.stage_dir


def test_prompts_that_would_be_cut_stop_the_run_with_their_count(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^data: 2 of 4 prompts are longer than 19 tokens .*row 2: 20.*row 4: 33.*overlong=drop"
    ):
        run_data_stage([pair_of(16), pair_of(17), pair_of(3), pair_of(30)], tmp_path)


def test_prompts_that_would_be_cut_are_dropped_and_counted_on_request(tmp_path: Path) -> None:
    stage_dir = run_data_stage([pair_of(16), pair_of(17), pair_of(3), pair_of(30)], tmp_path, "data.overlong=drop")
    report = json.loads((stage_dir / "report.json").read_text())
    assert (report["rows"], report["pairs"], report["examples"]) == (4, 2, {"sft": 2, "dpo": 2})
    assert report["left_out"] == {"prompt too long": 2}
    assert report["responses_cut"] == {"sft": 1, "dpo": 2}  # of the prompt with 19 of 20 tokens
    kept = [json.loads(line)["prompt"][0]["content"] for line in (stage_dir / "pairs.jsonl").read_text().splitlines()]
    assert kept == [pair_of(16)["prompt"], pair_of(3)["prompt"]]


def test_pairs_that_the_cut_makes_equal_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = {"prompt": "red", "chosen": "red " * 20 + "yes .", "rejected": "red " * 20 + "no ."}
    report = json.loads((run_data_stage([late, pair_of(3)], tmp_path) / "report.json").read_text())
    assert report["examples"] == {"sft": 2, "dpo": 1}
    assert report["left_out"] == {"equal after the cut to 20 tokens": 1}
    assert report["responses_cut"] == {"sft": 1, "dpo": 2}
    assert "2 responses cut by dpo.max_length=20" in capsys.readouterr().out
    run_data_stage([late], tmp_path, "dpo.truncation_mode=keep_end")
    with pytest.raises(DataError, match=r"no pair differs in what dpo\.max_length=20 leaves of it; raise it"):
        run_data_stage([late], tmp_path)


def test_the_row_of_a_long_prompt_is_its_row_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: 33"):
        run_data_stage([pair_of(3, chosen=""), pair_of(30)], tmp_path)


def test_data_without_a_usable_pair_stops_the_run_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable pair among 2 rows; left out: .*empty response.*1.*prompt too long.*1"):
        run_data_stage([pair_of(3, chosen=""), pair_of(30)], tmp_path, "data.overlong=drop")


def test_a_conversation_the_chat_template_refuses_is_named(tmp_path: Path) -> None:
    base = copy_of_base(tmp_path)
    template = (base / "chat_template.jinja").read_text()
    twice = "messages|length > 1 and messages[0]['role'] == messages[1]['role']"
    refusal = "{{ raise_exception('roles must alternate') if " + twice + " }}"
    (base / "chat_template.jinja").write_text(refusal + template)
    rows = [pair_of(3) | {"prompt": [USER]}, pair_of(3) | {"prompt": [USER, USER]}]
    with pytest.raises(DataError, match=r"^data: .*row 2: .*chat template refuses .*must alternate.*\(roles: user, user\)"):
        run_data_stage(rows, tmp_path, f"model.tokenizer={base}")


# ------------------------------------------------------------------------------------------------------------ model files
def copy_of_base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE_DIR, tmp_path / "model"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# What happened to the model's directory -> how the ArtifactError reads.
# fmt: off
BAD_MODELS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("weights cut short", lambda d: cut_in_half(d / "model.safetensors"), r"SafetensorError: .*if the file was cut short"),
    ("weights of no bytes", lambda d: (d / "model.safetensors").write_bytes(b""), r"SafetensorError: .*copy it again"),
    ("no weights", lambda d: (d / "model.safetensors").unlink(), r"no file named model\.safetensors"),
    ("a config that is no json", lambda d: (d / "config.json").write_text("{"), r"config\.json.*not a valid JSON"),
    ("a config of another shape", lambda d: edit_json(d / "config.json", hidden_size=64), r"mismatch|shape|size"),
    ("weights for fewer layers than the config has", lambda d: edit_json(d / "config.json", num_hidden_layers=5),
     r"model\.layers\.4\.|missing"),
]
# fmt: on


@pytest.mark.parametrize(("damage", "message"), [c[1:] for c in BAD_MODELS], ids=[c[0] for c in BAD_MODELS])
def test_a_damaged_model_is_refused_before_training(damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    """Never a model whose weights are partly random: it would train, and nobody would know."""
    path = copy_of_base(tmp_path)
    damage(path)
    with pytest.raises(ArtifactError, match=rf"(?s)^model at {re.escape(str(path))} cannot be loaded: .*({message})") as caught:
        load_model(ModelSection(path=str(path), dtype="float32"), str(path))
    assert caught.value.exit_code == 2


def test_the_undamaged_model_loads(tmp_path: Path) -> None:
    """The control of the table above."""
    path = copy_of_base(tmp_path)
    assert load_model(ModelSection(path=str(path), dtype="float32"), str(path)).config.num_hidden_layers == 4


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    path = copy_of_base(tmp_path)
    (path / "chat_template.jinja").unlink()
    with pytest.raises(
        ConfigError, match=r"^model\.tokenizer: .* has no chat template, and prompts are chats; use an instruct"
    ):
        load_tokenizer(ModelSection(path=str(path)), str(path))


@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_a_directory_without_a_tokenizer_is_refused(damage: str, tmp_path: Path) -> None:
    path = copy_of_base(tmp_path)
    if damage == "absent":
        (path / "tokenizer.json").unlink()
        (path / "tokenizer_config.json").unlink()
    else:
        cut_in_half(path / "tokenizer.json")
    with pytest.raises(
        ConfigError, match=rf"^model\.tokenizer: {re.escape(str(path))} holds no tokenizer that transformers can"
    ):
        load_tokenizer(ModelSection(path=str(path)), str(path))


def test_an_attention_kernel_that_is_not_installed_is_refused_in_words() -> None:
    model = ModelSection(path="sandbox", dtype="float32", attn_implementation="flash_attention_2")
    with pytest.raises(KeelError, match=r"(?i)attn_implementation|flash"):
        load_model(model, str(BASE_DIR))


def test_fresh_weights_of_an_impossible_shape_are_refused_in_words(tmp_path: Path) -> None:
    shape = {"model_type": "llama", "hidden_size": 10, "num_attention_heads": 3}
    with pytest.raises(ConfigError, match=r"(?s)^model\.random_init: transformers does not accept this shape: .*multiple"):
        write_fresh_model(ModelSection(random_init=shape, tokenizer=str(BASE_DIR)), tmp_path / "fresh", seed=0)


# ------------------------------------------------------------------------------------------------------ the run directory
def in_runs(overrides: str, tmp_path: Path) -> RunConfig:
    return load(f"run.name=r paths.runs={tmp_path} {overrides}", tmp_path)


def claimed(overrides: str, tmp_path: Path) -> Path:
    """A run directory with something finished in it."""
    run_dir = claim_directory(in_runs(overrides, tmp_path))
    (run_dir / "sft").mkdir()
    (run_dir / "sft" / "manifest.json").write_text("{}")
    return run_dir


def test_another_configs_run_is_refused_with_the_difference_and_three_ways_out(tmp_path: Path) -> None:
    run_dir = claimed("", tmp_path)
    with pytest.raises(ConfigError) as caught:
        claim_directory(in_runs("seed=1 dpo.beta=0.2", tmp_path))
    text = str(caught.value)
    assert text.startswith(f"run.name: {run_dir} holds a run with another config:")
    for part in ("seed: 0 there, 1 now", "dpo.beta: 0.1 there, 0.2 now"):
        assert part in text
    for way_out in ("run.name=<another name>", "run.on_existing=resume", "run.on_existing=overwrite"):
        assert way_out in text
    assert yaml.safe_load((run_dir / CONFIG).read_text())["seed"] == 0
    assert (run_dir / "sft" / "manifest.json").exists()


@pytest.mark.parametrize(
    "same",
    [
        "",
        "launcher.processes=2",
        "tracking.mode=disabled",
        "run.on_existing=resume",
        "trainer.save_steps=7 trainer.logging_steps=3",
    ],
)
def test_the_same_config_goes_on_where_it_was(same: str, tmp_path: Path) -> None:
    """How many processes there are and where it is tracked do not make another run."""
    run_dir = claimed("", tmp_path)
    assert claim_directory(in_runs(same, tmp_path)) == run_dir
    assert (run_dir / "sft" / "manifest.json").exists()


def test_resume_takes_the_new_config_and_keeps_the_stages(tmp_path: Path) -> None:
    run_dir = claimed("", tmp_path)
    claim_directory(in_runs("seed=1 run.on_existing=resume", tmp_path))
    assert yaml.safe_load((run_dir / CONFIG).read_text())["seed"] == 1
    assert (run_dir / "sft" / "manifest.json").exists()


def test_overwrite_deletes_the_run_that_was_there(tmp_path: Path) -> None:
    run_dir = claimed("", tmp_path)
    claim_directory(in_runs("seed=1 run.on_existing=overwrite", tmp_path))
    assert [path.name for path in run_dir.iterdir() if path.name != LOCK] == [CONFIG]
    assert yaml.safe_load((run_dir / CONFIG).read_text())["seed"] == 1


def test_overwrite_removes_a_link_and_not_what_it_leads_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage that was moved to a larger disk."""
    run_dir = claim_directory(in_runs("", tmp_path))
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "weights").write_text("x")
    (run_dir / "sft").symlink_to(tmp_path / "disk")
    (run_dir / "dpo").symlink_to(tmp_path / "gone")
    claim_directory(in_runs("seed=1 run.on_existing=overwrite", tmp_path))
    assert sorted(path.name for path in run_dir.iterdir()) == [LOCK, CONFIG]
    assert (tmp_path / "disk" / "weights").exists()
    assert f"{run_dir / 'sft'} is a link: it is removed, and what it leads to" in capsys.readouterr().out


def test_overwrite_leaves_other_runs_alone(tmp_path: Path) -> None:
    """A sweep puts its runs inside (`r/seed=1`), each a run of its own, perhaps of days."""
    claimed("", tmp_path)
    inside = claimed("run.name=r/inside seed=1", tmp_path)
    claim_directory(in_runs("seed=2 run.on_existing=overwrite", tmp_path))
    assert (inside / "sft" / "manifest.json").exists()


@pytest.mark.parametrize("on_existing", ["refuse", "resume", "overwrite"])
def test_a_directory_that_is_no_run_is_refused_and_untouched(on_existing: str, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match=r"^run\.name: .*/r exists and is not a run; choose another run\.name or paths\.runs"):
        claim_directory(in_runs(f"run.on_existing={on_existing}", tmp_path))
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["thesis.tex"]


def test_a_start_that_could_not_write_its_config_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / f"{CONFIG}.tmp").write_text("run:\n  na")
    assert (claim_directory(in_runs("", tmp_path)) / CONFIG).exists()


@pytest.mark.parametrize("left", [b"", b"run: {name: \xff", b"run:\n  name: r\nmodel: {pa"])
def test_a_run_whose_config_was_cut_short_is_reported_in_words(left: bytes, tmp_path: Path) -> None:
    """What a full disk or a kill during the first second leaves."""
    run_dir = claimed("", tmp_path)
    (run_dir / CONFIG).write_bytes(left)
    with pytest.raises(KeelError, match=re.escape(str(run_dir))):
        claim_directory(in_runs("", tmp_path))
