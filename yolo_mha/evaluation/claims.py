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
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from ..data.files import process_namespace, write_text

SUFFIX = ".claim"
LEASE = 90.0  # seconds
TOUCH = 5.0  # seconds between touches
PATIENCE = 30.0  # seconds to wait for others who take a claim
BOOT = "/proc/sys/kernel/random/boot_id"  # of Linux


@dataclass(frozen=True)
class Claim:
    """Who trains a run.

    Attributes:
        token: Tells this claim from all others.
        machine: Name of the machine.
        processes: Identifier of the process namespace; each container of a machine has its own.
        process: Number of the process there.
        since: When the claim began, in UTC, ISO 8601.
        job: What a scheduler calls the process, such as "SLURM job 17_3"; empty without one.
        restarts: How often the scheduler has started that job again.
    """

    token: str
    machine: str
    processes: str
    process: int
    since: str
    job: str
    restarts: int

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
    file = claim_file(run)
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(Timeout), FileLock(file.parent / ".claims.lock", timeout=PATIENCE):
        own = _own()
        other = holder(run)
        if other is None or (other.job and other.job == own.job and other.restarts < own.restarts):
            write_text(file, json.dumps(asdict(own)))
            return own
    return None


def holder(run: Path) -> Claim | None:
    """Return the claim on a run that holds now; None where there is none.

    Args:
        run: The run's folder.
    """
    file = claim_file(run)
    try:
        touched = file.stat().st_mtime
        claim = Claim(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # damaged, or of another version
        claim = Claim("", "an unknown machine", "", 0, "", "", 0)
    return None if _is_gone(claim) or _storage_time(file.parent) - touched >= LEASE else claim


def is_held(file: Path, token: str) -> bool:
    """Say whether the claim in a file is the one with this token."""
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["token"] == token)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return False
    except OSError:  # the storage does not answer now, which says nothing of the claim
        return True


def release(run: Path, claim: Claim) -> None:
    """Give a claim back, if it still holds."""
    if is_held(claim_file(run), claim.token):
        claim_file(run).unlink(missing_ok=True)


@contextmanager
def renewed(claims: Mapping[Path, Claim]) -> Iterator[None]:
    """Touch claims again and again while the block runs, whatever else this process does.

    Args:
        claims: By the run's folder; may change meanwhile.
    """
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(TOUCH):
            for run, claim in list(claims.items()):
                if is_held(claim_file(run), claim.token):
                    with suppress(OSError):
                        os.utime(claim_file(run))

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def claim_file(run: Path) -> Path:
    """Return the file of the claim on a run."""
    return run.with_name(f"{run.name}{SUFFIX}")


def _own() -> Claim:
    """Return a new claim of this process."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    job, restarts = _job(os.environ)
    return Claim(uuid.uuid4().hex, socket.gethostname(), _processes(), os.getpid(), since, job, restarts)


def _processes() -> str:
    """Return an identifier of the process namespace; empty if the system has none."""
    try:
        return f"{Path(BOOT).read_text(encoding='ascii').strip()} {process_namespace()}"
    except OSError:
        return ""


def _is_gone(claim: Claim) -> bool:
    """Say whether the process of a claim is known to have ended."""
    if (claim.machine, claim.processes) != (socket.gethostname(), _processes()):
        return False
    try:
        return bool(psutil.Process(claim.process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _storage_time(folder: Path) -> float:
    """Return the time by the clock of a file system; by this machine's where nothing can be written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
            probe.flush()
            os.fsync(probe.fileno())  # a network file system tells the time of its server only then
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def _job(environment: Mapping[str, Any]) -> tuple[str, int]:
    """Return what SLURM calls this process, and how often it has started it again."""
    job = environment.get("SLURM_ARRAY_JOB_ID") or environment.get("SLURM_JOB_ID")
    if job is None:
        return "", 0
    task, restarts = environment.get("SLURM_ARRAY_TASK_ID"), environment.get("SLURM_RESTART_COUNT", "0")
    return f"SLURM job {job}" + ("" if task is None else f"_{task}"), int(restarts) if restarts.isdigit() else 0
