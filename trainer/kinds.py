"""Every kind of method, data format, suite, judge and launcher, by the name that a config has for it. A new kind is one line
here, and a folder or a file of its own; `docs/adding.md` shows how."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from launchers.local.section import LocalLauncher
from launchers.slurm.section import SlurmLauncher
from trainer.config.run import RunConfig
from trainer.config.section import KINDS, Kinds
from trainer.config.training import SECTIONS
from trainer.data.formats.aegis import AegisData
from trainer.data.formats.beavertails import BeavertailsData
from trainer.data.formats.chat import ChatFiles
from trainer.data.formats.cosalign import CosalignData
from trainer.data.formats.do_not_answer import DoNotAnswerData
from trainer.data.formats.gene import GeneFiles
from trainer.data.formats.instructions import InstructionFiles
from trainer.data.formats.labelled import AnyLabelledData
from trainer.data.formats.pairs import PreferenceData
from trainer.data.formats.pku import PkuData
from trainer.data.formats.preference import ExplicitData
from trainer.data.formats.summedits import SummeditsData
from trainer.data.formats.toxigen import ToxigenData
from trainer.data.formats.transcripts import TranscriptData
from trainer.data.formats.unpaired import UnpairedFiles
from trainer.evaluation.judges.endpoint import EndpointJudgeSection
from trainer.evaluation.judges.model import ModelJudgeSection
from trainer.evaluation.judges.refusal import RefusalJudgeSection
from trainer.evaluation.suites.cosalign_test import CosalignTestEvaluation
from trainer.evaluation.suites.cosapien import CosapienEvaluation
from trainer.evaluation.suites.prompts import PromptsEvaluation
from trainer.methods.cosalign.section import CosalignMethod
from trainer.methods.dpo.section import DpoMethod
from trainer.methods.dsa.judge import GuardrailJudgeSection
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.dsa.suite import GuardrailEvaluation
from trainer.methods.kto.section import KtoMethod
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safesteer.section import SafeSteerMethod
from trainer.methods.sft.section import SftMethod
from trainer.methods.untrained.section import UntrainedMethod
from trainer.sandbox.formats import SandboxInstructions, SandboxLabelled, SandboxMix, SandboxPairs, SandboxSafety
from trainer.sandbox.gene import SandboxGene, SandboxTasksEvaluation
from trainer.sandbox.suites import ExactJudgeSection, SandboxEvaluation, SandboxSafetyEvaluation
from trainer.sandbox.unpaired import SandboxUnpaired

METHODS = {
    "cosalign": CosalignMethod,
    "sft": SftMethod,
    "dpo": DpoMethod,
    "safesteer": SafeSteerMethod,
    "dsa": DsaMethod,
    "kto": KtoMethod,
    "safegene": SafeGeneMethod,
    "untrained": UntrainedMethod,
}
FORMATS = {
    "sandbox": SandboxPairs,
    "sandbox_mix": SandboxMix,
    "sandbox_safety": SandboxSafety,
    "cosalign": CosalignData,
    "transcripts": TranscriptData,
    "preference": ExplicitData,
    "pku": PkuData,
    "chat": ChatFiles,
    "instructions": InstructionFiles,
    "sandbox_instructions": SandboxInstructions,
    "sandbox_labelled": SandboxLabelled,
    "toxigen": ToxigenData,
    "aegis": AegisData,
    "beavertails": BeavertailsData,
    "summedits": SummeditsData,
    "do_not_answer": DoNotAnswerData,
    "labelled": AnyLabelledData,
    "unpaired": UnpairedFiles,
    "sandbox_unpaired": SandboxUnpaired,
    "gene": GeneFiles,
    "sandbox_gene": SandboxGene,
}
SUITES = {
    "sandbox": SandboxEvaluation,
    "sandbox_safety": SandboxSafetyEvaluation,
    "sandbox_tasks": SandboxTasksEvaluation,
    "cosalign_test": CosalignTestEvaluation,
    "cosapien": CosapienEvaluation,
    "prompts": PromptsEvaluation,
    "guardrails": GuardrailEvaluation,
}
JUDGES = {
    "exact": ExactJudgeSection,
    "refusal": RefusalJudgeSection,
    "guardrail": GuardrailJudgeSection,
    "model": ModelJudgeSection,
    "endpoint": EndpointJudgeSection,
}
LAUNCHERS = {"local": LocalLauncher, "slurm": SlurmLauncher}

KINDS |= {
    "method": Kinds("name", dict(METHODS)),
    "data": Kinds("format", dict(FORMATS)),
    "preferences": Kinds("format", {name: cls for name, cls in FORMATS.items() if issubclass(cls, PreferenceData)}),
    "evaluation": Kinds("benchmark", dict(SUITES)),
    "judge": Kinds("name", dict(JUDGES)),
    "launcher": Kinds("name", dict(LAUNCHERS)),
}
SECTIONS |= {name: section for method in METHODS.values() for name, section in method.trl.items()}

_sections: Any = [(name, dict[str, Any], field(default_factory=dict)) for name in SECTIONS]
_plain: Any = make_dataclass("RunConfig", _sections, bases=(RunConfig,), frozen=True)
# A run's config as it is read: `RunConfig` and the sections of all training stages.
_section: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid"))
CONFIG: type[RunConfig] = _section(_plain)
