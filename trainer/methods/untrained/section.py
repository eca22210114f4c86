"""An evaluation alone, as a section of a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import DataSection, MethodSection
from trainer.config.endpoint import EndpointSection
from trainer.config.models import model_problems
from trainer.config.paths import PLAIN_NAME
from trainer.config.section import section
from trainer.config.stage import Stage, Training
from trainer.config.tokenizer import tokenizer_problems
from trainer.errors import ConfigError
from trainer.items import IN_CONTEXT, Contender
from trainer.methods.untrained.found import Found, found_at

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig


@section
class UntrainedMethod(MethodSection):
    """Trains nothing: compares the model at model.path with others that are there.

    models: name -> what is compared with it: a model, as `model.path` names one; or the directory of what is put onto
        model.path: a LoRA adapter of PEFT's, an aligner of DSA's, a dsa run (its aligner), a safety gene.
    strength: of aligners: 0 is the base, 1 the aligner.
    targeted: a dsa run's aligner acts only on prompts that the run's guardrail finds unsafe.
    endpoints: name -> a model behind a server.
    """

    name: Literal["untrained"]
    models: dict[str, str] = Field(default_factory=dict)
    strength: float = Field(1.0, ge=0)
    targeted: bool = False
    endpoints: dict[str, EndpointSection] = Field(default_factory=dict)

    data: ClassVar[type[DataSection]] = DataSection
    made_of_base: ClassVar[str | None] = "trainer.methods.untrained.contenders:made_of_base"

    def training(self, config: RunConfig) -> tuple[Training, ...]:
        return ()

    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        return []

    def untrained(self, config: RunConfig) -> tuple[str, ...]:
        return ()

    def contenders(self, config: RunConfig) -> list[Contender]:
        return [*IN_CONTEXT, *(Contender(name, name) for name in (*self.models, *self.endpoints))]

    def weights_at(self, weights: str) -> str | None:
        path = self.models.get(weights)
        return str(Path(path).expanduser()) if path is not None and found_at(path) is Found.MODEL else None

    def endpoint(self, weights: str) -> EndpointSection | None:
        return self.endpoints.get(weights)

    def sources(self, weights: str) -> tuple[tuple[str, ...], dict[str, Any]]:
        """An aligner's strength counts, and nothing of the other models."""
        return ("base", "model.", f"method.models.{weights}"), {"strength": self.strength, "targeted": self.targeted}

    def talked_to(self, config: RunConfig) -> str:
        raise ConfigError("method: nothing was trained in this run; give the directory of a model.")

    def reads(self) -> dict[str, str | None]:
        return {f"models.{name}": path for name, path in self.models.items()}

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        problems = []
        taken = {contender.label for contender in IN_CONTEXT}
        for key, names in (("models", self.models), ("endpoints", self.endpoints)):
            for name in names:
                if not PLAIN_NAME.match(name) or name in taken:
                    problems.append(
                        f"method.{key}.{name}: must be letters, digits, _ and -, and no other row's name; rename it."
                    )
                taken.add(name)
        for name, path in self.models.items():
            problems += self._problems_of(f"method.models.{name}", path, config, base_dir)
        found = {found_at(str(base_dir / Path(path).expanduser())) for path in self.models.values()}
        for key, is_set in (("strength", self.strength != 1), ("targeted", self.targeted)):
            if is_set and not found & {Found.ALIGNER, Found.RUN}:
                problems.append(f"method.{key}: is of aligners, and there is none in method.models; remove it, or name one.")
        for name, endpoint in self.endpoints.items():
            problems += endpoint.endpoint_problems(f"method.endpoints.{name}")
        if config.evaluation is None:
            problems.append("evaluation: method=untrained does nothing else; choose an evaluation.")
        return problems

    def _problems_of(self, key: str, path: str, config: RunConfig, base_dir: Path) -> list[str]:
        match found_at(str(base_dir / Path(path).expanduser())):
            case None:
                return [f"{key}: {path} holds nothing to evaluate; give a directory with {Found.files()}."]
            case Found.MODEL:
                model = config.model
                problems = model_problems(key, path, base_dir)
                if problems or model.tokenizer is not None:
                    return problems
                return tokenizer_problems(key, path, base_dir, model.trust_remote_code, model.chat_template)
            case _:
                return []
