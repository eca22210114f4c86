"""Whole evaluations: several judges of the same answers, models that were there before, and what is never done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.judges.chat_server import Answer, ChatServer, chat_server
from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import write_config
from trainer.config.sections import ModelSection
from trainer.config.shipped import SHIPPED
from trainer.data.labelled import Labelled
from trainer.errors import ArtifactError, ConfigError, StageFailed
from trainer.evaluation import generate
from trainer.evaluation.report import beside, print_report, with_auc
from trainer.methods.dsa import artifact
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.base import read
from trainer.methods.dsa.examples import encode
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.safegene.gene import Gene, architecture_of, tokenizer_fingerprint
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.models.low_rank import read_adapter
from trainer.pipeline.run import CONFIG

BASE = SHIPPED["sandbox_steerable"]
MODEL = ModelSection(path=str(BASE), dtype="float32")  # type: ignore[call-arg]
ATTACKS, BENIGN = 6, 4


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """The overrides of an evaluation of the sandbox's base, on prompts from files."""
    for name, count in (("attacks", ATTACKS), ("benign", BENIGN)):
        rows = [{"prompt": f"what is {number} plus {len(name)} ?"} for number in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "experiment=evaluate", "model=sandbox_steerable", "evaluation=prompts", "evaluation.resamples=50",
        f"evaluation.attacks.a={tmp_path}/attacks.jsonl", "generation.max_new_tokens=6",
    ]  # fmt: skip


@pytest.fixture
def with_benign(asked: list[str], tmp_path: Path) -> list[str]:
    return [*asked, f"evaluation.benign.b={tmp_path}/benign.jsonl"]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    def reply(text: str) -> str:
        if "YES or NO" in text:
            return "YES"
        return ("RISKS: Violence" if "is 1" in text else "RISKS: none") if "RISKS" in text else "RATING: 3"

    with chat_server(reply) as running:
        yield running


def by_server(server: ChatServer, key: str) -> list[str]:
    return [f"{key}.url={server.url}", f"{key}.model=m", f"{key}.api_key_env=null"]


def results_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return found


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "evaluate" / "responses.jsonl").read_text().splitlines()]


def said(run_dir: Path) -> dict[str, list[str]]:
    """Model -> its responses, in the order of the prompts."""
    found: dict[str, list[str]] = {}
    for row in rows_of(run_dir):
        found.setdefault(row["model"], []).append(row["response"])
    return found


def test_two_judges_and_how_far_they_agree(
    with_benign: list[str], server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*with_benign, "judge=refusal", "judges.far.name=endpoint", *by_server(server, "judges.far"),
                 "judges.far.price_in=1000", "judges.far.price_out=1000"]  # fmt: skip
    run_dir = run_here(tmp_path, *overrides, "run.name=run")
    results, rows = results_of(run_dir), rows_of(run_dir)
    assert len(rows) == ATTACKS + BENIGN
    attacks = [row for row in rows if row["suite"] == "attack"]
    assert all(row["risks"] == ["Other Harms"] and row["refused"] is False for row in attacks), "nothing is a published refusal"
    assert [row["judges"]["far"]["risks"] for row in attacks] == [
        ["Violence"] if "is 1" in row["prompt"] else [] for row in attacks
    ]
    assert all(row["judges"]["far"]["judge"].keys() == {"addressed", "risks", "rating"} for row in rows)
    assert results["models"]["base"]["asr"]["value"] == 1.0
    far = results["judges"]["far"]
    assert far["models"]["base"]["asr"] == far["models"]["base"]["asr/a"] | {"value": pytest.approx(1 / ATTACKS)}
    assert far["facts"]["requests"] == 3 * (ATTACKS + BENIGN) and far["facts"]["dollars_now"] == pytest.approx(0.36)
    risk, refused = results["agreement"]
    assert (risk["judges"], risk["on"], risk["n"]) == (["refusal", "far"], "risk", ATTACKS)
    assert risk["kappa"] == 0.0 and risk["agree"] == pytest.approx(1 / ATTACKS)
    assert (refused["on"], refused["n"], refused["kappa"], refused["agree"]) == ("refused", ATTACKS + BENIGN, None, 1.0)
    assert results["provenance"]["judges"]["far"]["url"] == server.url
    capsys.readouterr()
    print_report(load_config(composed([*overrides, "run.name=run", f"paths.runs={tmp_path}"])), run_dir)
    shown = capsys.readouterr().out
    assert "judged by far" in shown and "refusal and far" in shown and "Cohen's kappa" in shown
    assert "far: 30 replies, 300 tokens of prompts and 60 of replies; asked this time: 30, $0.36" in shown

    asked_before = server.asked.total()
    again = run_here(tmp_path, *overrides, "run.name=again", "judges.third.name=refusal")
    assert server.asked.total() == asked_before, "what the server has said is kept for all runs"
    assert rows_of(again)[0]["judges"]["far"] == rows[0]["judges"]["far"]
    perfect = next(one for one in results_of(again)["agreement"] if one["judges"] == ["refusal", "third"])
    assert perfect["agree"] == 1.0 and results_of(again)["judges"]["far"]["facts"]["requests_now"] == 0


def test_what_a_further_judge_did_not_understand_is_said(asked: list[str], tmp_path: Path) -> None:
    with chat_server(lambda text: "Well.") as server:
        overrides = [*asked, "judge=refusal", "judges.far.name=endpoint", *by_server(server, "judges.far"), "run.name=run"]
        results = results_of(run_here(tmp_path, *overrides))
    assert results["agreement"] == [] and results["judges"]["far"]["models"]["base"]["invalid_judgements"]["value"] == 1.0
    assert "judged by far: base: no judgement of a was understood (n = 0); what needs one is -" in beside(results)


def test_a_base_is_asked_once_for_all_runs(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [*asked, "judge=refusal"]
    first = run_here(tmp_path, *asked, "run.name=a/first")
    asked_for: list[int] = []
    complete = generate.complete

    def counted(chats: Sequence[Any], *args: Any, **options: Any) -> Iterator[list[tuple[int, str]]]:
        asked_for.append(len(chats))
        yield from complete(chats, *args, **options)

    monkeypatch.setattr(generate, "complete", counted)
    trained = ["experiment=sft", *asked[1:], "data.prompts=8", "trainer.max_steps=1", "trainer.train_batch_size=2",
               "trainer.per_device_train_batch_size=2"]  # fmt: skip
    second = run_here(tmp_path, *trained, "run.name=second")
    assert asked_for == [ATTACKS], "the trained model alone"
    assert said(second)["base"] == said(first)["base"]
    asked_for.clear()
    run_here(tmp_path, *trained, "run.name=second", "run.on_existing=resume", "judges.x.name=refusal")
    assert asked_for == [], "a further judge asks no model of the run again"
    (tmp_path / "attacks.jsonl").write_text(
        json.dumps({"prompt": "what is 7 plus 7 ?"}) + "\n" + json.dumps({"prompt": "what is 1 plus 7 ?"})
    )
    run_here(tmp_path, *asked, "run.name=third")
    assert asked_for == [1], "one prompt is new"
    asked_for.clear()
    for other in ("generation.max_new_tokens=5", "model.attn_implementation=eager", "model=sandbox"):
        run_here(tmp_path, *asked, "run.name=third", other)
    assert asked_for == [2, 2, 2], "another length, another arithmetic, another model"


def labelled_run(path: Path) -> Path:
    """A dsa run with a guardrail of prompts and responses, and what it said of its texts; returns the guardrail's directory."""
    directory = path / "guardrail_lst"
    directory.mkdir(parents=True)
    write_config(load_config(composed(["experiment=dsa_guardrails", "model=sandbox_steerable"])), path / CONFIG)
    base = load_model(MODEL, str(BASE))
    torch.manual_seed(0)
    guardrail = make_guardrail(AdapterConfig("lst"), base, ("prompt", "response"))
    torch.nn.init.normal_(guardrail.head.weight, std=3.0)
    artifact.save(guardrail, directory, base_fingerprint(str(BASE)))
    known = [("validation", 0, 0.3), ("validation", 0, 0.5), ("validation", 1, 0.9), ("toxic", 0, 0.2), ("toxic", 0, 0.6),
             ("toxic", 1, 0.4), ("toxic", 1, 0.8), ("train", 0, 1.0)]  # fmt: skip
    lines = [
        {"row": row, "set": of_set, "labels": {"prompt": 1, "response": label}, "p": {"prompt": 0.5, "response": p}}
        for row, (of_set, label, p) in enumerate(known)
    ]
    (directory / "probabilities.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def test_a_guardrail_judges_with_its_auc_beside_every_number(
    with_benign: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = labelled_run(tmp_path / "guards")
    overrides = [*with_benign, "judge=refusal", "judges.guard.name=guardrail", f"judges.guard.path={directory}",
                 "judges.guard.batch_size=4", "run.name=run"]  # fmt: skip
    run_dir = run_here(tmp_path, *overrides)
    guard, rows = results_of(run_dir)["judges"]["guard"], rows_of(run_dir)
    facts = guard["facts"]
    assert facts["auc"]["value"] == 0.75 and facts["auc"]["n"] == 4, "of the four test responses alone"
    assert facts["tau"] == pytest.approx(0.5) and facts["tau"] > 0.5, "just above all safe validation responses"
    assert facts["auc_on"] == ["toxic"]
    metrics = guard["models"]["base"]
    assert metrics.keys() == {"asr", "asr/a", "invalid_judgements"} and all(m["judge_auc"] == 0.75 for m in metrics.values())
    base = load_model(MODEL, str(BASE)).eval()
    loaded = artifact.load(directory, base, base_fingerprint(str(BASE)))
    tokenizer = load_tokenizer(MODEL, str(BASE))
    attacks = [row for row in rows if row["suite"] == "attack"]
    for row in attacks:  # one at a time, without padding
        (example,) = encode(tokenizer, [Labelled(row["prompt"], row["response"])])
        ids = torch.tensor([example.ids])
        with torch.no_grad():
            hidden = read(base, ids, torch.ones_like(ids), logits_to_keep=1).hidden_states
            p = loaded(hidden, torch.ones_like(ids), torch.tensor([example.positions]))[0, 1].sigmoid().item()
        verdict = row["judges"]["guard"]
        assert float(verdict["judge"]["p_unsafe"]) == pytest.approx(p, abs=1e-5)
        assert verdict["risks"] == (["Other Harms"] if p >= facts["tau"] else []) and verdict["refused"] is None
    assert len({row["judges"]["guard"]["judge"]["p_unsafe"] for row in attacks}) > 1
    assert all(row["judges"] == {} for row in rows if row["suite"] == "over_refusal"), "of which it can tell nothing"
    (agreement,) = results_of(run_dir)["agreement"]
    assert agreement["on"] == "risk" and agreement["n"] == ATTACKS
    capsys.readouterr()
    print_report(load_config(composed([*overrides, f"paths.runs={tmp_path}"])), run_dir)
    shown = capsys.readouterr().out
    assert "(AUC .75)" in shown and "guard: AUC .75 ±" in shown and "on responses of toxic (n = 4)" in shown


def test_the_main_judge_must_tell_all_that_is_asked(asked: list[str], with_benign: list[str], tmp_path: Path) -> None:
    directory = labelled_run(tmp_path / "guards")
    with pytest.raises(ConfigError, match=r"judge=guardrail can tell nothing of over_refusal.*judges.NAME.name=guardrail"):
        run_here(tmp_path, *with_benign, "judge=guardrail", f"judge.path={directory}", "run.name=run")
    run_dir = run_here(tmp_path, *asked, "judge=guardrail", f"judge.path={directory}", "run.name=attacks")
    assert results_of(run_dir)["models"]["base"]["asr"]["judge_auc"] == 0.75
    shown = with_auc((("attack\nsuccess", "asr"),), results_of(run_dir), "guardrail")
    assert list(shown) == [("attack\nsuccess\n(AUC .75)", "asr")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda facts, lines: facts.update(labels=["prompt"]), "reads no responses"),
        (lambda facts, lines: facts.update(role="aligner"), "reads no responses"),
        (lambda facts, lines: lines.clear(), "how good it is on responses is not known"),
        (lambda facts, lines: lines.pop(6) and lines.pop(5), "how good it is on responses is not known"),
        (lambda facts, lines: lines.__delitem__(slice(0, 2)), "how good it is on responses is not known"),
    ],
    ids=["labels", "role", "no texts", "one class", "no validation"],
)
def test_a_guardrail_of_which_nobody_knows_how_good_it_is_judges_nothing(
    asked: list[str], tmp_path: Path, change: Any, words: str
) -> None:
    directory = labelled_run(tmp_path / "guards")
    facts = json.loads((directory / "adapter.json").read_text())
    lines = (directory / "probabilities.jsonl").read_text().splitlines()
    change(facts, lines)
    (directory / "adapter.json").write_text(json.dumps(facts))
    (directory / "probabilities.jsonl").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=words):
        load_config(composed([*asked, "judge=guardrail", f"judge.path={directory}"]))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter, the model with it merged in, a gene, an aligner, and a dsa run."""
    place = tmp_path_factory.mktemp("there")
    base, tokenizer = load_model(MODEL, str(BASE)), load_tokenizer(MODEL, str(BASE))
    torch.manual_seed(0)
    aligner = make_aligner(AdapterConfig("lld"), base)
    for parameter in aligner.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    guardrail = make_guardrail(AdapterConfig("lst"), base, ("prompt",))
    guardrail.tau = 2.0  # flags nothing
    (place / "run").mkdir()
    write_config(load_config(composed(["experiment=dsa", "model=sandbox_steerable"])), place / "run" / CONFIG)
    for name, adapter in {"guardrail_lst": guardrail, "dpo_aligner": aligner}.items():
        (place / "run" / name).mkdir()
        artifact.save(adapter, place / "run" / name, base_fingerprint(str(BASE)))
    facts = ([0, 1], [0.1] * 4, "contrast", architecture_of(base), tokenizer_fingerprint(tokenizer), "base", {"run": "made"})
    wrapped = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(place / "lora")
    (place / "gene").mkdir()
    Gene(read_adapter(place / "lora"), *facts).save(place / "lora", place / "gene")
    wrapped.merge_and_unload().save_pretrained(place / "merged")
    tokenizer.save_pretrained(place / "merged")
    return place


def test_everything_that_can_be_put_onto_a_base(asked: list[str], there: Path, tmp_path: Path) -> None:
    models = {"lora": "lora", "merged": "merged", "gene": "gene", "aligner": "run/dpo_aligner", "stack": "run"}
    overrides = [*asked, "judge=refusal", *(f"method.models.{name}={there}/{path}" for name, path in models.items())]
    answers = said(run_here(tmp_path, *overrides, "run.name=run"))
    assert list(answers) == ["base", *models]
    assert answers["lora"] == answers["merged"] != answers["base"]
    assert answers["gene"] != answers["base"] and answers["gene"] != answers["lora"], "two of its four layers are kept"
    assert answers["aligner"] == answers["stack"] != answers["base"]
    off = [*overrides, "run.name=off", "method.targeted=true", "evaluation.models=[base,stack]"]
    assert said(run_here(tmp_path, *off))["stack"] == answers["base"], "its guardrail flags no prompt"
    zero = [*overrides, "run.name=zero", "method.strength=0", "evaluation.models=[aligner,lora]"]
    answered = said(run_here(tmp_path, *zero))
    assert answered == {"aligner": answers["base"], "lora": answers["lora"]}
    results = results_of(tmp_path / "run")
    assert {label: metrics["asr"]["n"] > 0 for label, metrics in results["models"].items()} == dict.fromkeys(
        ["base", *models], True
    )


def test_what_does_not_fit_is_refused(asked: list[str], there: Path, tmp_path: Path) -> None:
    for name, path, words in (
        ("aligner", there / "run" / "dpo_aligner", "was trained on the base"),
        ("gated", there / "run", "was trained on the base"),
    ):
        with pytest.raises(ArtifactError, match=words):
            run_here(tmp_path, *asked, "model=sandbox", "judge=refusal", f"method.models.{name}={path}", f"run.name={name}")
    (tmp_path / "guards").mkdir()
    with pytest.raises(ArtifactError, match="holds no aligner"):
        run_here(tmp_path, *asked, "judge=refusal", f"method.models.g={there}/run/guardrail_lst", "run.name=g")


def test_a_model_behind_an_endpoint(asked: list[str], tmp_path: Path) -> None:
    with chat_server(lambda text: "I'm sorry, but no." if "is 1" in text else "Sure.") as server:
        overrides = [
            *asked,
            "judge=refusal",
            *by_server(server, "method.endpoints.far"),
            "evaluation.models=[far]",
            "run.name=run",
        ]
        server.trouble = lambda text, count: Answer(400, "a filter") if "is 2" in text else None
        with pytest.raises(StageFailed, match=r"refuses 1 of 6 requests, such as: \(HTTP 400: a filter\)"):
            run_here(tmp_path, *overrides)
        server.trouble = lambda text, count: None
        run_dir = run_here(tmp_path, *overrides)
        assert server.answered == dict.fromkeys([f"what is {number} plus 7 ?" for number in range(ATTACKS)], 1)
        assert server.bodies[-1]["max_tokens"] == 6
    assert said(run_dir) == {"far": ["I'm sorry, but no." if "is 1" in row["prompt"] else "Sure." for row in rows_of(run_dir)]}
    assert results_of(run_dir)["models"]["far"]["asr"]["value"] == pytest.approx(5 / 6)
