"""The ledger: rows of evaluated runs, written by many at once, and made anew."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.sweep.fabricate import finish, run_config
from trainer.compare.__main__ import main as compare
from trainer.errors import ArtifactError, ConfigError
from trainer.ledger.__main__ import main
from trainer.ledger.query import directories, select
from trainer.ledger.store import append, ledger_of, rebuild
from trainer.pipeline.run import run_directory


def finished(runs: Path, name: str, asr: float, seed: int = 0) -> Path:
    config = run_config(runs, name, seed=seed, evaluation={"benchmark": "sandbox_safety"})
    entry = {"value": asr, "ci95": [asr / 2, 1.0], "n": 50}
    finish(config, {"base": {"asr": 0.9}, "sft": {"asr": entry}}, costs={"sft": {"cpu_hours": 0.5}})
    return run_directory(config)


def test_a_row_is_a_model_with_its_metrics_and_where_it_is_from(tmp_path: Path) -> None:
    run = finished(tmp_path, "s/a", 0.25, seed=3)
    append(ledger_of(tmp_path), run)
    columns = 'model, role, method, seed, "safety/asr", "safety/asr/low", "safety/asr/n", "cost/cpu_hours", directory'
    names, rows = select(tmp_path, f"select {columns} from ledger order by model")
    assert names[4] == "safety/asr"
    assert rows == [
        ("base", "base", "sft", 3, 0.9, None, 1, None, str(run)),
        ("sft", "own", "sft", 3, 0.25, 0.125, 50, 0.5, str(run)),
    ]


def test_sixteen_processes_append_at_once_and_nothing_is_lost_or_torn(tmp_path: Path) -> None:
    runs = [finished(tmp_path, f"s/{index}", index / 16, seed=index) for index in range(16)]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_append_often, args=(tmp_path, run)) for run in runs]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if any(ledger_of(tmp_path).glob("*.parquet")):
            select(tmp_path, "select * from ledger")  # whole at any time
    assert [process.exitcode for process in processes] == [0] * 16
    _, rows = select(tmp_path, "select seed, \"safety/asr\" from ledger where role = 'own' order by seed")
    assert rows == [(index, index / 16) for index in range(16)]
    assert not list(ledger_of(tmp_path).glob("*.tmp"))


def _append_often(runs: Path, run: Path) -> None:
    for _ in range(5):
        append(ledger_of(runs), run)


def test_it_is_rebuilt_from_the_runs_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, gone, damaged = (finished(tmp_path, name, 0.5) for name in ("kept", "s/gone", "damaged"))
    for run in (gone, damaged):
        append(ledger_of(tmp_path), run)
    gone.rename(tmp_path.with_name("elsewhere"))
    (damaged / "results.json").write_text("{")
    assert main(["rebuild", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "1 runs" in printed and f"left out: {damaged}: results.json is damaged" in printed
    assert directories(tmp_path, "true") == [kept]


def test_a_run_that_is_evaluated_while_the_ledger_is_rebuilt_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path, "first", 0.5)
    late = finished(tmp_path / "x" / "y", "deeper/than/looked/for", 0.5)  # as good as one that came after the search
    append(ledger_of(tmp_path), late)
    assert rebuild(tmp_path) == (1, {})
    assert set(directories(tmp_path, "true")) == {tmp_path / "first", late}


def test_a_query_chooses_what_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        append(ledger_of(tmp_path), finished(tmp_path, f"s/{index}", index / 4, seed=index))
    query = "role = 'own' and \"safety/asr\" < 0.4"
    assert compare(["--ledger", query, "--runs", str(tmp_path)]) == 0
    assert "2 runs of sft" in capsys.readouterr().out
    assert main(["query", f'select run, "safety/asr" from ledger where {query} order by run', "--runs", str(tmp_path)]) == 0
    assert "s/1" in (printed := capsys.readouterr().out) and "0.25" in printed and "s/2" not in printed


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sede = 0", "sede"), ("select run from ledger", "no column directory"), ("seed = 7", "no run in"),
        ("safety/asr < 1", "double quotes"), ("drop table ledger", "the query is wrong"), ("", ""),
    ],
)  # fmt: skip
def test_a_query_that_cannot_work_is_explained(tmp_path: Path, query: str, said: str) -> None:
    append(ledger_of(tmp_path), finished(tmp_path, "a", 0.5))
    if not query:
        assert directories(tmp_path, query) == [tmp_path / "a"]
        return
    with pytest.raises(ConfigError, match=said):
        directories(tmp_path, query)


def test_no_ledger_and_a_damaged_one_say_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.ledger rebuild"):
        select(tmp_path, "true")
    path = append(ledger_of(tmp_path), finished(tmp_path, "a", 0.5))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"trainer\.ledger rebuild"):
        select(tmp_path, "true")
    assert rebuild(tmp_path) == (1, {}) and select(tmp_path, "true")[1]
