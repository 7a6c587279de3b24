"""Claims on runs: one process at a time, and what a dead one leaves behind."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from yolo_mha.evaluation.claims import LEASE, Claim, holder, release, renew, take


def write_claim(run: Path, machine: str, process: int = 1, started: float = 0.0, age: float = 0.0) -> None:
    file = run.with_name(f"{run.name}.claim")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(["a token", machine, process, started, "2026-01-01T00:00:00+00:00", ""]))
    os.utime(file, (time.time() - age,) * 2)


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "arms" / "attention" / "seed3"


def test_take__is_for_one_until_it_is_given_back(run):
    claim = take(run)
    assert isinstance(claim, Claim)
    assert holder(run) == claim
    assert take(run) is None
    release(claim)
    assert holder(run) is None
    assert take(run)


@pytest.mark.parametrize(
    ("age", "held"), [(0, True), (LEASE - 20, True), (LEASE + 20, False)], ids=["now", "within", "after"]
)
def test_take__of_another_machine_after_the_lease(run, age, held):
    write_claim(run, "node7", age=age)
    assert (holder(run) is not None) == held
    assert (take(run) is None) == held


def test_take__of_this_machine_when_its_process_is_gone(run, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_claim(run, "here", other.pid, psutil.Process(other.pid).create_time(), age=2 * LEASE)
    assert take(run) is None  # it lives, however long ago it last touched the file
    write_claim(run, "here", other.pid, psutil.Process(other.pid).create_time() - 60)
    assert take(run)  # another process has its number now
    write_claim(run, "here", other.pid, psutil.Process(other.pid).create_time())
    other.kill()
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:  # it was not waited for
        time.sleep(0.01)
    assert take(run)
    other.communicate()


def test_take__of_a_claim_that_is_being_written(run):
    write_claim(run, "node7")
    file = run.with_name("seed3.claim")
    file.write_text("")
    assert take(run) is None
    os.utime(file, (time.time() - 2 * LEASE,) * 2)
    assert take(run)


def test_take__of_many_one_takes_over(run):
    for _ in range(10):
        write_claim(run, "node7", age=2 * LEASE)
        with ThreadPoolExecutor(16) as pool:
            taken = [claim for claim in pool.map(take, [run] * 16) if claim]
        assert len(taken) == 1


def test_renew__says_when_another_has_taken_over(run):
    claim = take(run)
    os.utime(claim.file, (0, 0))
    assert renew(claim)
    assert time.time() - claim.file.stat().st_mtime < 60
    write_claim(run, "node7")
    assert not renew(claim)
    release(claim)
    assert holder(run).machine == "node7"
    claim.file.unlink()
    assert not renew(claim)


def test_take__names_the_job_of_a_scheduler(run, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert take(run).job == "SLURM job 18"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert str(take(run.with_name("seed4"))).endswith(", SLURM job 17_3")
