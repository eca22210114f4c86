"""What the papers report, in the words of our vocabulary: facts, as published. Shares where the papers print percent. On which
hardware they were measured is not told in a form that could stand in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A published row. ours: the label of the same model in our results; empty where we have none."""

    name: str
    model: str
    values: Mapping[str, float]
    ours: str = ""


@dataclass(frozen=True)
class Table:
    """Attributes:
    paper: its identifier on arXiv.
    experiments: where (sandbox, real, paper) -> the experiments whose models stand in it.
    columns: metrics of the vocabulary; of `guardrail/auc`, which is of a guardrail on a set, all sets that there are.
    asks: what the published columns are measured on.
    """

    paper: str
    experiments: Mapping[str, Sequence[str]]
    columns: Sequence[str]
    asks: str
    lines: Sequence[Line]


_SEEN, _UNSEEN, _CAPABILITY = "cosa/score/seen", "cosa/score/unseen", "capability/accuracy"
_ASR, _TASK, _GAIN, _TAX = "safety/asr", "capability/task", "safety/gain", "capability/tax"
_LLAMA, _QWEN = "Llama-3.1-8B-Instruct", "Qwen2.5-7B"

COSALIGN = Table(
    "2410.08968",
    {"sandbox": ["cosalign"], "real": ["real/cosalign"], "paper": ["paper/cosalign"]},
    (_SEEN, _UNSEEN, _CAPABILITY),
    "CoSAlign-Test, configs seen and unseen in training; capability is an average of benchmarks",
    (
        Line("base", _LLAMA, {_CAPABILITY: 0.752}, "base"),
        Line("ICA", _LLAMA, {_SEEN: 0.182, _UNSEEN: 0.091}, "ica"),
        Line("ICA, 5 shots", _LLAMA, {_SEEN: 0.217, _UNSEEN: 0.141}, "ica_5shot"),
        Line("Cascade", _LLAMA, {_SEEN: 0.171, _UNSEEN: 0.095}),
        Line("Cascade-Oracle", _LLAMA, {_SEEN: 0.201, _UNSEEN: 0.119}),
        Line("CoSAlign, SFT only", _LLAMA, {_SEEN: 0.238, _UNSEEN: 0.189}, "sft"),
        Line("CoSAlign", _LLAMA, {_SEEN: 0.408, _UNSEEN: 0.293, _CAPABILITY: 0.743}, "sft_dpo"),
    ),
)
SAFESTEER = Table(
    "2606.02530",
    {"sandbox": ["safesteer", "dpo_mix"], "real": ["real/safesteer"], "paper": ["paper/safesteer"]},
    (_ASR, _CAPABILITY),
    "averages of attack sets and of capability benchmarks, greedy",
    (
        Line("base", "Qwen3-4B-Instruct-2507", {_ASR: 0.0287, _CAPABILITY: 0.7168}, "base"),
        Line("DPO-Mix", "Qwen3-4B-Instruct-2507", {_ASR: 0.0170, _CAPABILITY: 0.6710}, "sft_dpo"),
        Line("SafeSteer", "Qwen3-4B-Instruct-2507", {_ASR: 0.0091, _CAPABILITY: 0.7139}, "safesteer"),
        Line("base", "Qwen2.5-7B-Instruct", {_ASR: 0.0459, _CAPABILITY: 0.6890}),
        Line("SafeSteer", "Qwen2.5-7B-Instruct", {_ASR: 0.0148, _CAPABILITY: 0.6917}),
        Line("base", "Llama-3.2-3B", {_ASR: 0.0526, _CAPABILITY: 0.6361}),
        Line("SafeSteer", "Llama-3.2-3B", {_ASR: 0.0406, _CAPABILITY: 0.6286}),
        Line("base", "Llama-3-8B", {_ASR: 0.0375, _CAPABILITY: 0.6364}),
        Line("SafeSteer", "Llama-3-8B", {_ASR: 0.0354, _CAPABILITY: 0.6318}),
    ),
)
_TOXIGEN, _AEGIS, _SUMMEDITS = (f"guardrail/auc/{name}" for name in ("ToxiGen", "AEGIS 2.0 and BeaverTails", "SummEdits"))
DSA = Table(
    "2506.00166",
    {"sandbox": ["dsa"], "real": ["real/dsa"], "paper": ["paper/dsa"]},
    (_GAIN, _TAX, "guardrail/auc"),
    "safety on StrongREJECT, capability on MTBench; area under the ROC curve on the sets named",
    (
        Line("DSA, targeted", "not named", {_GAIN: 0.93, _TAX: 0.02}, "dsa_targeted"),
        Line("DSA guardrail", "not named", {_TOXIGEN: 0.98, _AEGIS: 0.93, _SUMMEDITS: 0.88}, "lst"),
        Line("guardrail on its own", "not named", {_TOXIGEN: 0.92, _AEGIS: 0.90, _SUMMEDITS: 0.61}, "standalone"),
    ),
)
SAFEGENE = Table(
    "2606.06519",
    {"sandbox": ["safegene"], "real": ["real/safegene"], "paper": []},
    (_ASR, _TASK),
    "averages over fine-tuning tasks",
    (
        Line("fine-tuned, no defence", _QWEN, {_ASR: 0.3991}, "mean/none"),
        Line("SafeLoRA", _QWEN, {_ASR: 0.4063}, "mean/safelora"),
        Line("SafeMERGE", _QWEN, {_ASR: 0.3775}, "mean/safemerge"),
        Line("SaLoRA", _QWEN, {_ASR: 0.3684}, "mean/salora"),
        Line("SafeGene", _QWEN, {_ASR: 0.3384, _TASK: 0.9012}, "mean/safegene"),
    ),
)
TABLES = {"cosalign": COSALIGN, "safesteer": SAFESTEER, "dsa": DSA, "safegene": SAFEGENE}
PLACES = ("sandbox", "real", "paper")
