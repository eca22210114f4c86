"""One start at a time in a run's directory, on any file system that the nodes share.

.lock/1, .lock/2, ...   who had the run, and under the highest number who has it now

A number is taken by `link`: one step, on NFS too, that fails where the number is taken; so of two starts that find the holder
dead, one gets the next. Only its holder writes to a number: now and then its time, as a sign of life, and at the end that it
has let go. The numbers before the last but one are removed.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainer.config.bases import Scheduler
from trainer.errors import ConfigError
from trainer.record import owner_of, this_user

LOCK = ".lock"
BEAT = 10.0  # seconds between two signs of life
DEAD_AFTER = 120.0  # seconds without one after which a holder on another machine counts as dead
LONGEST = DEAD_AFTER + BEAT  # seconds after which whoever is dead is known to be

_PAUSE = 1.0  # seconds between two attempts of a start that waits

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # as file systems without them say it
_held: set[Path] = set()  # by this process


@dataclass(frozen=True)
class Holder:
    """Who has a run.

    Attributes:
        machine: this boot of that host, and the container; process numbers mean something within it alone.
        began: when the process began, in the kernel's ticks: another process may have its number later.
        job, restarts: of a scheduler's, and how often it was started again.
        released: whether it has let go.
    """

    user: str
    host: str
    machine: str
    pid: int
    began: str
    command: str
    since: str
    job: str | None = None
    restarts: int = 0
    released: bool = False


@contextmanager
def exclusive(run_dir: Path, scheduler: Scheduler | None, patience: float = 0.0) -> Iterator[None]:
    """Have a run's directory alone in this block; it is made where it is not there. A block inside such a block has it already.

    Args:
        scheduler: of the jobs that may work there.
        patience: seconds to wait for somebody else to let go.

    Raises:
        ConfigError: somebody else has it, and the text says who; or it cannot be written.
    """
    place = run_dir.absolute()
    if place in _held:
        yield
        return
    mine = _take(place, scheduler, time.monotonic() + patience)
    _held.add(place)
    over = threading.Event()
    threading.Thread(target=_beat, args=(mine, over), name="run lock", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        _held.discard(place)
        with suppress(OSError):  # the directory may be gone
            _write(mine, replace(_read(mine) or _me(scheduler), released=True))


def _take(run_dir: Path, scheduler: Scheduler | None, until: float) -> Path:
    directory, me, told = run_dir / LOCK, _me(scheduler), False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        while True:
            numbers = _numbers(directory)
            if numbers and not _let_go(directory / str(numbers[-1]), me, scheduler):
                if time.monotonic() >= until:
                    raise ConfigError(_busy(run_dir, directory / str(numbers[-1])))
                if not told:
                    told = True
                    print(f"waits for another start to let go of {run_dir}", file=sys.stderr, flush=True)
                time.sleep(_PAUSE)
                continue
            mine = directory / str(numbers[-1] + 1 if numbers else 1)
            if _create(mine, me):
                for number in numbers[:-1]:
                    (directory / str(number)).unlink(missing_ok=True)
                return mine
    except OSError as error:
        raise ConfigError(
            f"paths.runs: cannot write in {run_dir}: {error.strerror}; choose a directory you can write to."
        ) from error


def _me(scheduler: Scheduler | None) -> Holder:
    return Holder(
        user=this_user(),
        host=platform.node(),
        machine=_machine(),
        pid=os.getpid(),
        began=_began(os.getpid()),
        command=" ".join(sys.argv),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        job=None if scheduler is None else scheduler.here(),
        restarts=0 if scheduler is None else scheduler.restarted(),
    )


def _numbers(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def _machine() -> str:
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return " ".join(parts)


def _began(pid: int) -> str:
    """Empty where there is no such process, or one that has ended and waits for its parent."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def _lives(holder: Holder) -> bool:
    """Whether a process of this machine is still there."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's; its beginning may be hidden from us
        return _began(holder.pid) in ("", holder.began)
    return _began(holder.pid) == holder.began


def _read(path: Path) -> Holder | None:
    """None where it cannot be read: it is being written, or somebody else's."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _let_go(path: Path, me: Holder, scheduler: Scheduler | None) -> bool:
    """Whether a holder has let go of the run, or is dead."""
    holder = _read(path)
    if holder is not None:
        if holder.released:
            return True
        if holder.machine == me.machine:
            return not _lives(holder)
        if holder.job is not None and holder.job == me.job and holder.restarts < me.restarts:
            return True
        if holder.job is not None and scheduler is not None and (over := scheduler.over(holder.job)) is not None:
            return over
    return _silent(path) > DEAD_AFTER


def _silent(path: Path) -> float:
    """Seconds since the last sign of life, by the clock of the file system."""
    now = path.with_name(f"now-{uuid.uuid4().hex}")
    try:
        now.touch()
        with path.open("rb") as file:  # opening it asks the server; a stat may be answered from a cache
            return now.stat().st_mtime - os.fstat(file.fileno()).st_mtime
    finally:
        now.unlink(missing_ok=True)


def _create(path: Path, me: Holder) -> bool:
    """Whether this number is ours now; false where somebody else has it."""
    temporary = path.with_name(f"new-{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(asdict(me)))
    try:
        os.link(temporary, path)
    except FileExistsError:
        return temporary.stat().st_nlink == 2  # NFS may have done it, and lost the answer
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(temporary.read_text())
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write(path: Path, holder: Holder) -> None:
    temporary = path.with_name(f"new-{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(asdict(holder)))
    temporary.replace(path)


def _beat(mine: Path, over: threading.Event) -> None:
    """Signs of life; and where another start has taken the run over (this machine was cut off for minutes), the end of this."""
    while not over.wait(BEAT):
        with suppress(OSError):
            if any(number > int(mine.name) for number in _numbers(mine.parent)):
                print(f"{mine.parent.parent}: another start has taken over; this one stops", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            os.utime(mine)


def _busy(run_dir: Path, path: Path) -> str:
    holder, silent = _read(path), _silent(path)
    if holder is None:
        who = f"{owner_of(path)} has it"
    else:
        job = "" if holder.job is None else f", job {holder.job}"
        who = f"{holder.user} has had it since {holder.since}, on {holder.host} (process {holder.pid}{job}: {holder.command})"
    return (
        f"run.name: {run_dir} is in use: {who}; last sign of life {silent:.0f} s ago. Two in one run directory would overwrite "
        f"each other: wait for it, stop it, or choose another run.name. One that died on another machine is passed over after "
        f"{DEAD_AFTER:.0f} s."
    )
