"""Claims on runs: one process at a time, and what a dead one leaves behind."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from yolo_mha.evaluation import claims
from yolo_mha.evaluation.claims import LEASE, Claim, claim_file, holder, is_held, release, renewed, take

OTHER = Claim("a token", "node7", "", 1, "2026-01-01T00:00:00+00:00", "", 0)


def write_claim(run: Path, claim: Claim = OTHER, age: float = 0.0) -> None:
    file = claim_file(run)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(claim)))
    os.utime(file, (time.time() - age,) * 2)


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "arms" / "attention" / "seed3"


def test_take__is_for_one_until_it_is_given_back(run):
    claim = take(run)
    assert isinstance(claim, Claim)
    assert holder(run) == claim
    assert take(run) is None
    release(run, claim)
    assert holder(run) is None
    assert take(run)


@pytest.mark.parametrize(
    ("age", "held"), [(0, True), (LEASE - 20, True), (LEASE + 20, False)], ids=["now", "within", "after"]
)
def test_take__of_another_machine_after_the_lease(run, age, held):
    write_claim(run, age=age)
    assert (holder(run) is not None) == held
    assert (take(run) is None) == held


def test_take__of_this_machine_when_its_process_is_gone(run):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim = replace(take(run), process=other.pid)
    write_claim(run, claim)
    assert take(run) is None
    write_claim(run, claim, age=2 * LEASE)
    assert take(run)  # its process lives and has not touched the file, as one that was stopped
    write_claim(run, claim)
    other.kill()
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:  # it was not waited for
        time.sleep(0.01)
    assert take(run)
    other.communicate()
    write_claim(run, claim)
    assert take(run)
    write_claim(run, replace(claim, processes="those of another container"))
    assert take(run) is None


def test_take__of_a_damaged_claim(run):
    write_claim(run)
    for text in ("", "[]", '{"token": 3}'):
        claim_file(run).write_text(text)
        assert take(run) is None
    os.utime(claim_file(run), (time.time() - 2 * LEASE,) * 2)
    assert take(run)


@pytest.mark.slow
def test_take__of_many_one_takes_over(run):
    for _ in range(10):
        write_claim(run, age=2 * LEASE)
        with ThreadPoolExecutor(16) as pool:
            taken = [claim for claim in pool.map(take, [run] * 16) if claim]
        assert len(taken) == 1


def test_take__of_a_job_that_the_scheduler_has_started_again(run, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    write_claim(run, replace(OTHER, job="SLURM job 17_3"))
    assert take(run) is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert str(take(run)).endswith(", SLURM job 17_3")
    write_claim(run, replace(OTHER, job="SLURM job 17_4"))
    assert take(run) is None
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert take(run.with_name("seed4")).job == "SLURM job 18"


def test_renewed__touches_what_is_still_held(run, monkeypatch):
    monkeypatch.setattr(claims, "TOUCH", 0.01)
    claim = take(run)
    os.utime(claim_file(run), (0, 0))
    with renewed({run: claim, run.with_name("seed9"): claim}):
        while claim_file(run).stat().st_mtime == 0:
            time.sleep(0.01)
        write_claim(run, age=1000)
        before = claim_file(run).stat().st_mtime
        time.sleep(0.1)
        assert claim_file(run).stat().st_mtime == before
    assert not is_held(claim_file(run), claim.token)
    release(run, claim)
    assert claim_file(run).exists()
