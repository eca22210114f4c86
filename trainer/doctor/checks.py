"""What the gathered facts mean. Every check is one pure function: facts in, one finding out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.doctor.facts import RankFacts, Scratch

GIB = 2**30
ENOUGH = GIB  # bytes; less is a fault whatever the run
_SKEW = 1.0  # seconds; file times and logs of several nodes are compared
_FILES = 1024


@dataclass(frozen=True)
class Finding:
    """One line of the table. fix: what to do about it; None where all is well. `advice` is worth reading, but not a fault."""

    subject: str
    fact: str
    fix: str | None = None
    kind: Literal["fault", "advice"] = "fault"

    @property
    def is_fault(self) -> bool:
        return self.fix is not None and self.kind == "fault"


@dataclass(frozen=True)
class AllReduce:
    """A measured all-reduce. wrong: ranks that got a wrong sum. latency: seconds for one number. size: bytes of the larger
    one; seconds: its time."""

    backend: str
    wrong: list[int]
    latency: float
    size: int
    seconds: float


def ranks_text(ranks: Iterable[int]) -> str:
    """`rank 3`, or `ranks 0-3, 6`."""
    ordered = sorted(ranks)
    runs: list[list[int]] = []
    for rank in ordered:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"rank{'s' if len(ordered) > 1 else ''} {text}"


def by_value(values: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    """value -> ranks that have it; the most common first."""
    found: dict[str, list[int]] = defaultdict(list)
    for rank, value in values:
        found[value].append(rank)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[1])))


def _places(ranks: Sequence[int], facts: Sequence[RankFacts]) -> str:
    hosts = sorted({fact.host for fact in facts if fact.rank in ranks})
    return f"{ranks_text(ranks)} ({', '.join(hosts[:4])}{', ...' if len(hosts) > 4 else ''})"


def versions(facts: Sequence[RankFacts]) -> Finding:
    names = list(dict.fromkeys(name for fact in facts for name in fact.versions))
    differing = []
    for name in names:
        found = by_value((fact.rank, fact.versions.get(name, "missing")) for fact in facts)
        if len(found) > 1:
            differing.append(f"{name} " + ", ".join(f"{value} on {_places(ranks, facts)}" for value, ranks in found.items()))
    if differing:
        return Finding(
            "versions",
            "differ: " + "; ".join(differing),
            "give every node the same environment: one on a file system that all nodes share (launcher.python), or one image",
        )
    return Finding("versions", " · ".join(f"{name} {value}" for name, value in facts[0].versions.items()))


def world(facts: Sequence[RankFacts], expected: int) -> Finding:
    hosts = by_value((fact.rank, fact.host) for fact in facts)
    shown = "; ".join(f"{host}: {ranks_text(ranks)}" for host, ranks in list(hosts.items())[:8])
    count = f"{len(facts)} {_plural(len(facts), 'rank')} on {len(hosts)} {_plural(len(hosts), 'node')}"
    text = f"{count} ({shown}{'; ...' if len(hosts) > 8 else ''})"
    if len(facts) != expected:
        return Finding("ranks", f"{text}, and the config says {expected}", "make the allocation and launcher.* agree")
    return Finding("ranks", text)


def devices(facts: Sequence[RankFacts], gpus_wanted: bool) -> Finding:
    found = by_value((fact.rank, f"{fact.device}{f', {fact.libraries}' if fact.libraries else ''}") for fact in facts)
    text = "; ".join(f"{value}: {_places(ranks, facts)}" for value, ranks in found.items())
    without = [fact.rank for fact in facts if fact.gpu is None]
    if gpus_wanted and without:
        return Finding(
            "devices",
            f"no usable GPU on {_places(without, facts)}",
            "check nvidia-smi there and that torch is a CUDA build; for a CPU job set launcher.gpus_per_node=0",
        )
    shared = {
        gpu: ranks for gpu, ranks in by_value((f.rank, f.gpu) for f in facts if f.gpu is not None).items() if len(ranks) > 1
    }
    if shared:
        both = "; ".join(_places(ranks, facts) for ranks in shared.values())
        return Finding(
            "devices", f"ranks share one GPU: {both}", "start one rank per GPU (launcher.processes, processes_per_node)"
        )
    if len(found) > 1:
        return Finding(
            "devices", f"differ: {text}", "ask for nodes of one kind (launcher.constraint); the slowest sets the pace", "advice"
        )
    return Finding("devices", f"{next(iter(found))} on all ranks")


def threads(facts: Sequence[RankFacts]) -> Finding:
    for host, ranks in by_value((fact.rank, fact.host) for fact in facts).items():
        own = [fact for fact in facts if fact.rank in ranks]
        cores, wanted = len(frozenset().union(*(fact.cores for fact in own))), sum(fact.threads for fact in own)
        if wanted > cores and max(fact.threads for fact in own) > 1:
            return Finding(
                "threads",
                f"{wanted} threads of {ranks_text(ranks)} share {cores} {_plural(cores, 'core')} of {host}",
                f"set OMP_NUM_THREADS={max(1, cores // len(own))}, or give each task more cores (launcher.cpus_per_task)",
                "advice",
            )
    found = by_value((f.rank, f"{f.threads} per rank, {len(f.cores)} {_plural(len(f.cores), 'core')}") for f in facts)
    return Finding("threads", "; ".join(f"{value}: {ranks_text(ranks)}" for value, ranks in found.items()))


def allocator(facts: Sequence[RankFacts]) -> Finding:
    found = by_value((fact.rank, fact.allocator or "does not matter on a GPU") for fact in facts)
    return Finding("allocator", "; ".join(f"{value}: {ranks_text(ranks)}" for value, ranks in found.items()))


def all_reduce(measured: AllReduce | None) -> Finding:
    if measured is None:
        return Finding("all-reduce", "one rank: nothing to reduce")
    if measured.wrong:
        return wrong_sum(measured.wrong, measured.backend)
    rate = measured.size / measured.seconds / 1e9
    size = f"{measured.size / 2**20:.0f} MiB"
    return Finding(
        "all-reduce",
        f"sum right over {measured.backend} · one number {measured.latency * 1e3:.2f} ms · {size} at {rate:.2f} GB/s",
    )


def wrong_sum(ranks: Sequence[int], backend: str) -> Finding:
    return Finding(
        "all-reduce",
        f"WRONG SUM on {ranks_text(ranks)} over {backend}",
        "leave these nodes out (sbatch --exclude) and report them: such hardware damages training silently",
    )


def writable(facts: Sequence[RankFacts], directory: str) -> Finding:
    refused = by_value((fact.rank, fact.unwritable) for fact in facts if fact.unwritable is not None)
    if refused:
        shown = "; ".join(f"{why} on {_places(ranks, facts)}" for why, ranks in refused.items())
        return Finding("run directory", f"{directory}: {shown}", "choose a paths.runs that every node can write to")
    return Finding("run directory", f"{directory}: every rank writes")


def shared(facts: Sequence[RankFacts], seen: Sequence[bool], directory: str) -> Finding:
    """seen: for each rank, whether it reads what rank 0 wrote."""
    blind = [fact.rank for fact, sees in zip(facts, seen, strict=True) if not sees]
    if blind:
        return Finding(
            "shared files",
            f"{_places(blind, facts)} cannot read what rank 0 wrote in {directory}",
            "set paths.runs to a directory on a file system that all nodes share",
        )
    return Finding("shared files", "every rank reads what rank 0 wrote")


def space(facts: Sequence[RankFacts], directory: str, enough: int = ENOUGH) -> Finding:
    least = min(facts, key=lambda fact: fact.free)
    text = f"{least.free / GIB:.1f} GiB free for runs ({directory})"
    if least.free < enough:
        return Finding(
            "space",
            f"{text} as rank {least.rank} on {least.host} sees it",
            "delete old runs or checkpoints, keep fewer (trainer.save_total_limit), or choose another paths.runs",
        )
    return Finding("space", text)


def scratch(found: dict[str, Scratch]) -> Finding:
    """found: node -> its scratch; empty where none is configured."""
    if not found:
        return Finding("scratch", "no node-local staging (launcher.scratch is not set)")
    bad = {host: it for host, it in found.items() if it.problem is not None}
    if bad:
        reason = str(next(iter(bad.values())).problem)
        return Finding("scratch", f"cannot be used on {', '.join(bad)}", reason.removeprefix("launcher.scratch: "))
    least = min(found, key=lambda host: found[host].free)
    text = f"{found[least].path}: {found[least].free / GIB:.1f} GiB free on {least}, the least of {len(found)}"
    if found[least].free < ENOUGH:
        return Finding(
            "scratch", text, f"remove old copies ({found[least].path}/keel-*), or set launcher.scratch=null", "advice"
        )
    return Finding("scratch", text)


def caches(missing: dict[str, list[str]], wanted: Sequence[str], offline: bool) -> Finding:
    """missing: node -> `key: name` of what it does not have; wanted: all of them."""
    lacking = {host: names for host, names in missing.items() if names}
    if not lacking:
        return Finding("model and data", f"present: {', '.join(wanted)}" if wanted else "shipped with the package")
    names = sorted({name for names in lacking.values() for name in names})
    text = f"not on {', '.join(sorted(lacking)[:4])}{', ...' if len(lacking) > 4 else ''}: {', '.join(names)}"
    if not offline:
        return Finding("model and data", text, "they will be fetched from the hub at first use, once per node cache", "advice")
    return Finding(
        "model and data",
        f"{text} (and the nodes are offline)",
        "bring them into a mirror where there is a network (python -m trainer.fetch, paths.mirror), or give local paths",
    )


def tracking(mode: str, url: str, unreachable: str | None, key: bool) -> Finding:
    if mode == "disabled":
        return Finding("W&B", "disabled (tracking.mode)")
    if mode == "offline":
        return Finding("W&B", "offline; afterwards: python -m trainer.tracking.sync RUN_DIR")
    if unreachable is not None:
        return Finding("W&B", f"{url} cannot be reached: {unreachable}", "set tracking.mode=offline, and sync afterwards")
    if not key:
        return Finding("W&B", f"{url} answers, and there is no key for it", f"wandb login --host {url}, or WANDB_API_KEY")
    return Finding("W&B", f"online at {url}")


def clocks(facts: Sequence[RankFacts], times: Sequence[float]) -> Finding:
    """times: each rank's clock at the same moment, as near as a barrier can say."""
    middle = sorted(times)[len(times) // 2]
    off = {fact.rank: time - middle for fact, time in zip(facts, times, strict=True) if abs(time - middle) > _SKEW}
    if off:
        worst = max(abs(value) for value in off.values())
        return Finding(
            "clocks", f"{_places(list(off), facts)} up to {worst:.1f} s off", "let chrony or ntpd set the time there"
        )
    return Finding("clocks", f"within {max(times) - min(times):.3f} s of each other")


def open_files(facts: Sequence[RankFacts]) -> Finding:
    least = min(facts, key=lambda fact: fact.open_files)
    needed = max(_FILES, 4 * len(facts))  # a rank may hold a few connections to each of the others
    if least.open_files < needed:
        return Finding(
            "open files",
            f"limit {least.open_files} for rank {least.rank} on {least.host}; {needed} is safe for {len(facts)} ranks",
            f"ulimit -n {needed} (launcher.setup, or the limits that slurmd starts with)",
        )
    return Finding("open files", f"limit {least.open_files}")


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
