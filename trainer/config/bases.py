"""What each kind of section answers for: a method, a data format, a suite, a judge, a launcher. The kinds themselves are listed
in `trainer/kinds.py`; nothing else asks a section what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from trainer.config.endpoint import EndpointSection
from trainer.config.section import section
from trainer.config.stage import Footprint, Stage, Training, TrlSection
from trainer.items import Contender, Item, Measure

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig

Column = tuple[str, str]  # heading of a table, name of a metric


@section
class MethodSection(ABC):
    """A way to make a model safer.

    Class attributes:
        trl: the sections that its training stages have in a config.
        data: the kind of data section that it trains on; `data_words` says so in an error.
        made_of_base: `module:function` for contenders whose weights are neither the base's nor a stage's: takes (weights,
            context, base, base_path, tokenizer) and returns a context manager with the model. None where there are none.
        measures: `module:function` that adds the method's own metrics and pictures to an evaluation: takes (context, scores)
            and returns the pictures by name. None where there are none.
        tables: `module:function` for tables besides the comparison of models: takes the results. None where there are none.
        chat: `module:function` that finds what a run of it left to talk to: takes (config, run directory). None is the model of
            `talked_to`.
    """

    name: str

    trl: ClassVar[Mapping[str, TrlSection]] = {}
    data: ClassVar[type[DataSection]]
    data_words: ClassVar[str] = ""
    made_of_base: ClassVar[str | None] = None
    measures: ClassVar[str | None] = None
    tables: ClassVar[str | None] = None
    chat: ClassVar[str | None] = None

    @abstractmethod
    def training(self, config: RunConfig) -> tuple[Training, ...]:
        """Its training stages, in order. Must not fail on a config with mistakes."""

    @abstractmethod
    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        """All its stages, in order, from the data to what is evaluated."""

    @abstractmethod
    def contenders(self, config: RunConfig) -> list[Contender]:
        """What its stages leave to compare; its own model is the last that is no variant."""

    def weights_at(self, weights: str) -> str | None:
        """The directory or hub name of a contender's weights, where they are a model that was there before the run."""
        return None

    def endpoint(self, weights: str) -> EndpointSection | None:
        """The server that is asked in place of weights."""
        return None

    def sources(self, weights: str) -> tuple[tuple[str, ...], dict[str, Any]]:
        """What a contender's weights other than the base are made of: beginnings of the keys that name what is read, and
        settings. All, where a method does not say less."""
        return ("",), asdict(self)  # type: ignore[call-overload]  # pydantic's are dataclasses

    def talked_to(self, config: RunConfig) -> str:
        """The stage whose model one talks to, where there is no `chat`."""
        return next(one.stage for one in reversed(self.training(config)) if not one.variant)

    def needs(self, config: RunConfig) -> tuple[type[DataSection], str]:
        """The kind of data section that it trains on, and that in words."""
        return self.data, self.data_words

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        """What cannot work, each as `key: what; do this`."""
        return []

    def reads(self) -> dict[str, str | None]:
        """Key in this section -> path or hub name that it reads from outside the run."""
        return {}

    def untrained(self, config: RunConfig) -> tuple[str, ...]:
        """The names of its stages that train nothing. Must not fail on a config with mistakes."""
        return ("data",)

    def footprint(self, config: RunConfig, training: Training) -> Footprint:
        """What `plan` has to know of one of its training stages.

        Raises:
            ConfigError: nothing is known of it.
        """
        return Footprint()

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        """Training stage -> examples of one epoch, before rows are left out; None where the data is not on this machine.

        Raises:
            DataError: the data cannot be read.
        """
        return dict.fromkeys(training.stage for training in self.training(config))

    def written_models(self) -> int:
        """Models that it writes without training them."""
        return 0

    def cheaper(self, config: RunConfig) -> dict[str, Any]:
        """Keys of this section -> values with which the same result takes less memory."""
        return {}


@section
class DataSection(ABC):
    """Where training data comes from, and how it is read."""

    format: str

    makes_its_own: ClassVar[bool] = False  # it speaks of the sandbox, and needs a model that knows its words

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        """What cannot work. `key`: where this section stands."""
        return []

    def reads(self) -> dict[str, str | None]:
        """As `MethodSection.reads`."""
        return {}


@section
class SuiteSection(ABC):
    """What models are asked in an evaluation.

    Class attributes:
        judges: the judges that can read its answers, or some of them.
        shows_configs, shots: whether its prompts stand under safety configs, and how many demonstrations they have.
        columns, headline: of the table that compares models, and of one that compares runs.
        asks: whether it asks models anything at all.
    """

    benchmark: str
    models: list[str] | None = Field(None, min_length=1)
    resamples: int = Field(2000, gt=0)

    judges: ClassVar[tuple[str, ...]] = ("model", "endpoint")
    shows_configs: ClassVar[bool] = False
    shots: ClassVar[int] = 0
    columns: ClassVar[tuple[Column, ...]] = ()
    headline: ClassVar[tuple[Column, ...]] = ()
    asks: ClassVar[bool] = True

    @abstractmethod
    def items(self) -> list[Item]:
        """The prompts.

        Raises:
            DataError: they cannot be read.
        """

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        return []

    def reads(self) -> dict[str, str | None]:
        """As `MethodSection.reads`."""
        return {}

    def contenders(self, known: Sequence[Contender]) -> list[Contender]:
        """Those of the run's contenders that it compares where the config names none."""
        return [c for c in known if (self.shows_configs or not c.in_context) and c.shots <= self.shots]


@section
class JudgeSection(ABC):
    """Who reads the answers.

    Class attributes:
        made: `module:function` that takes (this section, the key where it stands, the context of the stage) and returns the
            judge, on all ranks.
        measures: what it can tell of an answer.
    """

    name: str

    made: ClassVar[str]
    measures: ClassVar[frozenset[Measure]]

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        """What cannot work. `key`: where this section stands."""
        return []

    def reads(self) -> dict[str, str | None]:
        """As `MethodSection.reads`."""
        return {}


@dataclass(frozen=True)
class Submission:
    """Attributes: job_ids and scripts, one per job; logs: what each job writes, an array's with `*` for the index."""

    job_ids: list[str]
    scripts: list[Path]
    logs: list[str]


class Scheduler(ABC):
    """A launcher's queue of jobs."""

    @abstractmethod
    def inside(self) -> bool:
        """Whether this process runs in a job already, and so starts ranks in place of submitting."""

    @abstractmethod
    def restarted(self) -> int:
        """How often this job was started again; 0 outside a job."""

    @abstractmethod
    def element(self) -> int:
        """Which element of a job array this process is."""

    @abstractmethod
    def script(self, config: RunConfig, run_dir: Path, stages: Sequence[Stage]) -> dict[str, str]:
        """What submitting a run writes into its directory: file name -> text, in order."""

    @abstractmethod
    def submit(self, config: RunConfig, run_dir: Path, stages: Sequence[Stage]) -> Submission:
        """Submit a run whose directory is claimed.

        Raises:
            ConfigError: a job of this run is still pending or running, or a value cannot stand in a script.
            StageFailed: there is no such scheduler here, or it refused; nothing stays in the queue.
        """

    @abstractmethod
    def submit_array(self, config: RunConfig, run_dirs: Sequence[Path], sweep_dir: Path) -> Submission:
        """Submit runs of one size as a job array; element N is `run_dirs[N]`, whose directory is claimed.

        Raises: as `submit`.
        """

    @abstractmethod
    def submit_check(self, name: str, run_dir: Path, arguments: Sequence[str]) -> Submission:
        """Submit a job of some minutes, of the size of a run, that runs our Python with these arguments."""

    @abstractmethod
    def active(self) -> dict[str, str]:
        """This user's jobs that are pending or running: id -> state, in the scheduler's word. Elements of an array each on
        their own.

        Raises:
            StageFailed: the scheduler does not answer.
        """

    @abstractmethod
    def state(self, job: str) -> str:
        """What became of a job, in the scheduler's word.

        Raises:
            StageFailed: the scheduler does not answer, or no longer knows the job.
        """

    @abstractmethod
    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs, or take them out of the queue."""

    @abstractmethod
    def requeue(self) -> int:
        """After an interruption of the job around this process: put it back into the queue where that is right, say what was
        done, and return the exit status."""

    @abstractmethod
    def follow(self, submission: Submission) -> list[str]:
        """Commands to watch a submission, and to end it, for printing."""


@section
class LauncherSection(ABC):
    """How processes get started.

    Class attributes:
        more: the key that gives a run more devices.
        withheld: keys with variables whose values are in no file and on no screen.
    """

    name: str

    more: ClassVar[str]
    withheld: ClassVar[tuple[str, ...]] = ()
    gpu: str | None = None

    @property
    def scheduler(self) -> Scheduler | None:
        """Its queue; None where processes start at once."""
        return None

    @property
    def submits(self) -> bool:
        """Whether this process hands a run over, in place of carrying it out where it is."""
        return self.scheduler is not None and not self.scheduler.inside()

    @abstractmethod
    def world_size(self, stage: str) -> int:
        """Ranks of a distributed stage."""

    @abstractmethod
    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        """Run a stage and wait for it: on all ranks, or on one process where it is not distributed.

        Rank 0 writes where this process writes; rank N writes to `<stage>/logs/rank<N>.log`.

        Raises:
            StageFailed, ConfigError, DataError, ArtifactError: a rank failed; the text names the rank and its reason.
            Interrupted: a signal asked the ranks to stop, and they saved what they had.
            KeyboardInterrupt: this process was stopped from the keyboard; the ranks were stopped first.
        """

    def problems(self, config: RunConfig, stages: Sequence[str]) -> list[str]:
        """What cannot work. `stages`: the names of all stages of the run."""
        return []

    def wants_gpus(self) -> bool | None:
        """Whether its processes have GPUs; None where it does not say."""
        return None

    def node_name(self) -> str | None:
        """What this launcher calls the node around this process; None where the node's own name will do."""
        return None

    @property
    def scratch_directory(self) -> str | None:
        """A node-local directory for copies of model and data, its variables not yet expanded."""
        return None

    @property
    def signalled_before(self) -> int | None:
        """Seconds before its end at which a job is told; None where nothing ends it."""
        return None
