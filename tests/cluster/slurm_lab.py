"""A real Slurm on this machine: munged, slurmctld and a slurmd per node, all below one directory and ended with it.

Nodes are called 127.0.0.1, 127.0.0.2, ...: names that connect with nothing in /etc/hosts. All of them share this machine's
processors, whatever they claim to have. No root is needed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
_NODE = "KEEL_LAB_NODE"  # in the environment of a node's slurmd, and so of all that it starts
_FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}

_SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
KillWait=10
SlurmdTimeout=15
MinJobAge=3600
MessageTimeout=10
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PropagateResourceLimits=NONE
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    return [name for name in DAEMONS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not in {seconds:.0f} s")
        time.sleep(0.1)


class Cluster:
    """A running Slurm. Attributes: root, where everything of it is; nodes, their names; environment, for its commands."""

    def __init__(self, nodes: int = 2, cpus: int = 4):
        self.root = Path(tempfile.mkdtemp(prefix="lab"))  # short: a socket's path may have 107 bytes
        self.nodes = [f"127.0.0.{number}" for number in range(1, nodes + 1)]
        self.cpus = cpus
        conf = self.root / "slurm.conf"
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_", "SALLOC_"))}
        self.environment = outer | {"PATH": _path(), "SLURM_CONF": str(conf)}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Bring everything up and wait until every node is idle."""
        self.root.chmod(0o755)  # munge refuses sockets below a directory that others cannot enter
        for name in ("state", "spool", "log"):
            (self.root / name).mkdir()
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self._write_configuration()
        files = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{option}={self.root / value}" for option, value in files.items()]
        self._daemon("munged", "--foreground", "--force", f"--log-file={self.root / 'log' / 'munged.log'}", *options)
        _wait_until((self.root / "munge.socket").exists, 10, "munged")
        self._daemon("slurmctld", "-D", "-c")
        for node in self.nodes:
            self.start_node(node)

    def stop(self) -> None:
        """End all jobs, all daemons and every process that a job left behind; remove the directory."""
        if "slurmctld" in self._daemons:
            self._quietly("scancel", f"--user={os.getuid()}")
            with suppress(TimeoutError):
                _wait_until(lambda: not self._quietly("squeue", "--noheader"), 15, "jobs to end")
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.job_processes():
            process.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, and wait until it is idle."""
        self._daemon(f"slurmd-{node}", "-D", "-N", node, program="slurmd", **{_NODE: node})
        _wait_until(lambda: self.node_state(node) == "idle", 40, f"node {node} idle")

    def crash_node(self, node: str) -> None:
        """As if its power had failed: slurmd and everything that runs below it is gone at once."""
        daemon = self._daemons.pop(f"slurmd-{node}")
        daemon.kill()
        for process in [*self._marked(_NODE, node), *self._marked("SLURMD_NODENAME", node)]:  # Slurm's own, and the tasks
            process.kill()
        daemon.wait()

    def node_state(self, node: str) -> str:
        return self._quietly("sinfo", "--noheader", "--partition=main", f"--nodes={node}", "--format=%T")

    def run(self, *command: str, cwd: Path | None = None, seconds: float = 180, code: int = 0) -> str:
        """Run a command in this cluster's environment; returns what it printed, and fails on another exit code."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, f"{command[0]}: exit {done.returncode}, expected {code}:\n{output[-4000:]}"
        return output

    def job(self, job_id: str) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        lines = self.run("scontrol", "show", "job", job_id, "-o").splitlines()
        return dict(re.findall(r"(?:^| )([\w:]+)=(\S*)", lines[0]))

    def job_state(self, job_id: str) -> str:
        return self.job(job_id)["JobState"]

    def wait(self, job_id: str, seconds: float = 120, state: str | None = None) -> dict[str, str]:
        """Wait until a job has ended, or has come to `state`; returns its fields."""

        def there() -> bool:
            now = self.job_state(job_id)
            return now == state if state else now in _FINAL

        try:
            _wait_until(there, seconds, f"job {job_id} {state or 'over'}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {self.job(job_id)}") from None
        return self.job(job_id)

    def job_processes(self) -> list[psutil.Process]:
        """Every process of every job of this cluster that is still there."""
        found = []
        for process in self._marked("SLURM_CONF", self.environment["SLURM_CONF"]):
            with suppress(psutil.Error):
                if "SLURM_JOB_ID" in process.environ():
                    found.append(process)
        return found

    def _marked(self, name: str, value: str) -> list[psutil.Process]:
        """Processes of this cluster with a variable of that value in their environment."""
        wanted = {"SLURM_CONF": self.environment["SLURM_CONF"], name: value}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and wanted.items() <= process.environ().items():
                    found.append(process)
        return found

    def _daemon(self, name: str, *arguments: str, program: str | None = None, **environment: str) -> None:
        with (self.root / "log" / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                [program or name, *arguments],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _quietly(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def _write_configuration(self) -> None:
        with ExitStack() as held:  # all at once, so that no port is given twice
            sockets = [held.enter_context(socket.socket()) for _ in range(len(self.nodes) + 1)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            port, *ports = [one.getsockname()[1] for one in sockets]
        facts = f"NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory=4000 State=UNKNOWN"
        nodes = [f"NodeName={node} Port={own} {facts}" for node, own in zip(self.nodes, ports, strict=True)]
        user, host = psutil.Process().username(), socket.gethostname().split(".")[0]
        text = _SLURM_CONF.format(host=host, port=port, user=user, root=self.root, nodes="\n".join(nodes))
        (self.root / "slurm.conf").write_text(text)
        # Slurm 22.05 opens a cgroup plugin though nothing here uses it; looking for the right one fails in containers.
        (self.root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n")
        for node in self.nodes:
            (self.root / "spool" / node).mkdir()
