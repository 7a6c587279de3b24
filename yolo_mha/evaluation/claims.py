"""Claims on runs: where several processes train the runs of one comparison, each run is trained by one of them.

A claim is a file beside the run's folder. Whoever trains the run touches it again and again; a claim that was not
touched for `LEASE` seconds has ended, and so has one whose process on this machine is gone. Ages are told by the clock
of the file system that holds the files, because clocks of machines differ.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from ..data.files import write_text

SUFFIX = ".claim"
LEASE = 90.0  # seconds
PATIENCE = 30.0  # seconds to wait for another process that takes over a claim
SAME_START = 2.0  # seconds by which the start of a process may be told differently, as the clock is set


@dataclass(frozen=True)
class Claim:
    """Who trains a run.

    Attributes:
        file: Where it is written.
        token: Tells this claim from all others.
        machine: Name of the machine.
        process: Number of the process there.
        started: When that process began, by the clock of the machine; another one may get its number later.
        since: When the claim began, in UTC, ISO 8601.
        job: What a scheduler calls the process, such as "SLURM job 17_3"; empty without one.
    """

    file: Path
    token: str
    machine: str
    process: int
    started: float
    since: str
    job: str = ""

    def __str__(self) -> str:
        job = f", {self.job}" if self.job else ""
        return f"process {self.process} on {self.machine}{job}"


def take(run: Path) -> Claim | None:
    """Claim a run for this process.

    Args:
        run: The run's folder.

    Returns:
        The claim; None where another process trains the run.
    """
    file, this = _file(run), psutil.Process()
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    content = (uuid.uuid4().hex, socket.gethostname(), this.pid, this.create_time(), since, _job(os.environ))
    text = json.dumps(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
        return Claim(file, *content)
    if holder(run):
        return None
    with suppress(Timeout), FileLock(file.with_name(f".{file.name}.lock"), timeout=PATIENCE):
        if not holder(run):  # of those who take over, only one finds it so
            write_text(file, text)
            return Claim(file, *content)
    return None


def holder(run: Path) -> Claim | None:
    """Return the claim on a run that holds now; None where there is none.

    Args:
        run: The run's folder.
    """
    file = _file(run)
    try:
        touched, text = file.stat().st_mtime, file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        claim = Claim(file, *json.loads(text))
    except (ValueError, TypeError):  # it is being written just now, or damaged
        claim = Claim(file, "", "an unknown machine", 0, 0.0, "")
    if claim.machine == socket.gethostname():
        return claim if _is_running(claim) else None
    return claim if _storage_time(file.parent) - touched < LEASE else None


def renew(claim: Claim) -> bool:
    """Keep a claim for another `LEASE`, and say whether it is still this one that holds."""
    if not is_held(claim.file, claim.token):
        return False
    os.utime(claim.file)
    return True


def is_held(file: Path, token: str) -> bool:
    """Say whether the claim in a file is the one with this token."""
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))[0] == token)
    except (FileNotFoundError, ValueError):  # gone, or just begun by another process
        return False
    except OSError:  # the storage does not answer now, which says nothing of the claim
        return True


def release(claim: Claim) -> None:
    """Give a claim back, if it still holds."""
    if is_held(claim.file, claim.token):
        claim.file.unlink(missing_ok=True)


def _file(run: Path) -> Path:
    return run.with_name(f"{run.name}{SUFFIX}")


def _storage_time(folder: Path) -> float:
    """Return the time by the clock of a file system."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"0")
        probe.flush()
        os.fsync(probe.fileno())  # a network file system tells the time of its server only then
        return os.fstat(probe.fileno()).st_mtime


def _is_running(claim: Claim) -> bool:
    """Say whether the process of a claim of this machine still runs."""
    try:
        process = psutil.Process(claim.process)
        same = abs(process.create_time() - claim.started) < SAME_START
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _job(environment: Mapping[str, str]) -> str:
    """Return what SLURM calls this process."""
    job = environment.get("SLURM_ARRAY_JOB_ID") or environment.get("SLURM_JOB_ID")
    task = environment.get("SLURM_ARRAY_TASK_ID")
    return "" if job is None else f"SLURM job {job}" + ("" if task is None else f"_{task}")
