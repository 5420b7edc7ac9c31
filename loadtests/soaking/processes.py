"""The platform's processes while it runs: the memory, open files and threads of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.soaking.trend import Points
from loadtests.support.http_request import http_request
from loadtests.support.metrics import samples
from loadtests.support.proc import open_files

from headrace.edge.problems import status_of
from headrace.errors import error_from

__all__ = ["Census", "Process", "Sample", "faults_inside"]

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at_s` since the start: resident memory, open files, threads."""

    at_s: float
    rss_bytes: int
    files: int
    threads: int


@dataclass
class Process:
    """One process and its samples. `name` is its role, and the model that it serves."""

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def warmed_up(self, warm_up_s: float) -> Sequence[Sample]:
        """The samples after its first so many seconds."""
        return [s for s in self.samples if s.at_s >= self.samples[0].at_s + warm_up_s]

    def memory_mib(self, warm_up_s: float) -> Points:
        """MiB over minutes."""
        return [(s.at_s / 60, s.rss_bytes / (1 << 20)) for s in self.warmed_up(warm_up_s)]


class Census:
    """Samples every process of this machine that the admin port at `host:port` names."""

    def __init__(self, admin: str) -> None:
        self._admin = admin
        self._processes: dict[int, Process] = {}

    @property
    def processes(self) -> Sequence[Process]:
        """All processes seen so far, ended ones too."""
        return list(self._processes.values())

    def look(self, at_s: float) -> None:
        """Take a sample of each. Raises OSError if the admin port does not answer."""
        for pid, name in self._named().items():
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
                held = dict(line.split(":", 1) for line in status.splitlines())
                memory = int(held["VmRSS"].split()[0]) << 10
                sample = Sample(at_s, memory, open_files(pid), int(held["Threads"]))
            except (OSError, KeyError):  # it ended while it was looked at
                continue
            self._processes.setdefault(pid, Process(name, pid)).samples.append(sample)

    def replicas(self) -> Sequence[int]:
        """The processes that serve models now."""
        return [pid for pid, name in self._named().items() if name.startswith("replica")]

    def _named(self) -> Mapping[int, str]:
        health = http_request(self._admin, "GET", "/healthz", timeout_s=_TIMEOUT_S).json
        models = {replica["id"]: replica["model"] for replica in health["replicas"]}
        named = {
            int(p["pid"]): f"{p['role']} {models.get(p['id'], '')}".strip()
            for p in health["processes"]
        }
        return named | _operator(next(iter(named), 0))


def _operator(pid: int) -> dict[int, str]:
    """The process that was started by hand, above all that Ray started for it."""
    while pid > 1:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"serve" in command and any(word.endswith(b"/headrace") for word in command):
                return {pid: "operator"}
            pid = int(
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
        except OSError:
            break
    return {}


def faults_inside(admin: str) -> int:
    """Requests so far that ended in an error of status 500, also those whose callers had left."""
    errors = [s for s in samples(admin) if s.name == "headrace_errors_total"]
    return int(sum(s.value for s in errors if status_of(error_from(s.labels["code"], "")) == 500))
