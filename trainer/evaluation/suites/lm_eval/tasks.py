"""The tasks that lm-evaluation-harness knows: its own, ours in `task_files/`, and those of a folder that the user names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from lm_eval.tasks import TaskManager

from trainer.evaluation.suites.lm_eval.section import LmEvalEvaluation
from trainer.suggest import did_you_mean

OURS = Path(__file__).parent / "task_files"
FORMATS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}  # ending of a file -> what `datasets` calls it

SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")  # of a task's config


def format_of(path: str) -> str:
    """Empty where it is of no kind that can be read."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    return FORMATS.get(suffixes[-1], "") if suffixes else ""


@cache
def manager(include_path: str | None, all_of_them: bool) -> TaskManager:
    """all_of_them: the harness's own fourteen thousand too, which take seconds to read."""
    return TaskManager(include_path=_folders(include_path), include_defaults=all_of_them)


def _folders(include_path: str | None) -> list[str]:
    return [str(OURS), *([] if include_path is None else [str(Path(include_path).expanduser())])]


def manager_of(include_path: str | None, wanted: Collection[str]) -> TaskManager:
    """One that knows these tasks, groups and tags, if they are known at all."""
    here = manager(include_path, False)
    return here if set(here.all_tasks) >= set(wanted) else manager(include_path, True)


def without_data(task: str, of: TaskManager) -> bool:
    """Whether a task says how rows are read, and not from where."""
    config = of.task_index[task].cfg or {}
    return config.get("dataset_path") in FORMATS.values() and not (config.get("dataset_kwargs") or {}).get("data_files")


def task_problems(suite: LmEvalEvaluation, key: str) -> list[str]:
    """What cannot work in its tasks and their data. `key`: where the suite stands."""
    found = manager_of(suite.include_path, {*suite.tasks, *suite.data})
    problems = [f"{key}.tasks: unknown {name!r}; {_near(name, found)}" for name in _unknown(suite.tasks, found)]
    for task in _unknown(suite.data, found):
        problems.append(f"{key}.data.{task}: there is no such task; {_near(task, found)}")
    for task in suite.tasks:
        if task in found.task_index and task not in suite.data and without_data(task, found):
            problems.append(f"{key}.data.{task}: the task comes without data; give a file for each of its splits.")
    for task, files in suite.data.items():
        if task in found.task_index:
            problems += _split_problems(f"{key}.data.{task}", found.task_index[task].cfg or {}, files, suite.num_fewshot)
        formats = {format_of(path) for path in files.values()}
        if len(formats) != 1 or not all(formats):
            problems.append(f"{key}.data.{task}: needs files of one kind, of {', '.join(FORMATS)}; convert them.")
    return problems


def _split_problems(key: str, task: Mapping[str, Any], files: Collection[str], num_fewshot: int | None) -> list[str]:
    """What is wrong with the splits of which there are files. task: its config."""
    asked = [task[name] for name in ("test_split", "validation_split") if task.get(name)]
    if asked and not set(asked) & set(files):
        return [f"{key}: the task asks the rows of {' or '.join(asked)}; give a file as {key}.{asked[0]}=FILE."]
    shots = (task.get("num_fewshot") or 0) if num_fewshot is None else num_fewshot
    shown = task.get("fewshot_split") or task.get("training_split")
    if shots and shown not in (None, *files) and not (task.get("fewshot_config") or {}).get("samples"):
        return [f"{key}: the task shows {shots} examples of {shown}; give {key}.{shown}=FILE too, or set num_fewshot=0."]
    return []


def _near(name: str, found: TaskManager) -> str:
    return did_you_mean(name, found.all_tasks, "python -m lm_eval ls tasks shows them all.")


def _unknown(names: Iterable[str], found: TaskManager) -> list[str]:
    return [name for name in names if name not in found.task_index]


def manager_with_files(
    include_path: str | None, wanted: Collection[str], files: Mapping[str, Mapping[str, str]], out: Path
) -> TaskManager:
    """One that knows these tasks, some of which read files in place of their own data.

    Args:
        files: task -> split -> its file.
        out: a folder for the task files that say so.
    """
    found = manager_of(include_path, {*wanted, *files})
    if not files:
        return found
    out.mkdir(parents=True, exist_ok=True)
    for task, of_task in files.items():
        paths = {split: str(Path(path).expanduser().absolute()) for split, path in of_task.items()}
        changed: dict[str, Any] = {
            "include": str(found.task_index[task].yaml_path),
            "task": task,
            "dataset_path": format_of(next(iter(of_task.values()))),
            "dataset_name": None,
            "dataset_kwargs": {"data_files": paths},
        }
        config = found.task_index[task].cfg or {}
        changed |= {name: None for name in SPLITS if config.get(name) not in (None, *of_task)}
        (out / f"{task}.yaml").write_text(yaml.safe_dump(changed))
    folders = [*_folders(include_path), str(out)]
    here = TaskManager(include_path=folders, include_defaults=False)
    return here if set(here.all_tasks) >= set(wanted) else TaskManager(include_path=folders)
