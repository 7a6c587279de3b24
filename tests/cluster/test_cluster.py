"""Single runs, their state, and jobs for a scheduler."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

import yolo_mha
from yolo_mha import ConfigError
from yolo_mha.cli import main
from yolo_mha.evaluation.claims import release, take
from yolo_mha.evaluation.runs import read_run
from yolo_mha.paths import shipped

ARMS = {"baseline": "baseline", "attention": "mha"}


@pytest.fixture
def recipe(beacons, tiny, tmp_path, monkeypatch) -> Path:
    """A comparison of two arms and three seeds, in a folder whose name has a space."""
    (tmp_path / "my folder").mkdir()
    monkeypatch.chdir(tmp_path / "my folder")
    arms = {arm: f"demo-{name}.yaml" for arm, name in ARMS.items()}
    content = {"name": "two", "data": str(beacons), "arms": arms, "seeds": [0, 1, 2], "train": tiny}
    Path("two.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Path("two.yaml")


def states() -> dict[str, str]:
    found = yolo_mha.comparison_status("two.yaml")
    return {f"{run.arm}/{run.seed}": run.state for run in found.runs}


def write_end(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "end.json").write_text('{"peak_mib": 1.0, "gates": {}}')


def test_train_run__leaves_alone_what_is_done_or_trained_elsewhere(recipe, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "two.yaml", "emit=slurm", "--json"])
    assert stop.value.code == 0
    folder = Path(json.loads(capsys.readouterr().out)["save_dir"])
    assert states() == dict.fromkeys(
        ["baseline/0", "attention/0", "baseline/1", "attention/1", "baseline/2", "attention/2"], "waiting"
    )
    write_end(folder / "arms" / "attention" / "seed1")
    assert yolo_mha.train_run("two.yaml", only="attention/1").state == "done"
    assert take(folder / "arms" / "attention" / "seed1")  # as by one who has just found it so
    assert states()["attention/1"] == "done"
    before = sorted(folder.rglob("*"))
    run = folder / "arms" / "baseline" / "seed2"
    run.parent.mkdir()
    run.with_name("seed2.json").write_text('{"state": "failed", "seconds": 1.0, "resumed": 0, "error": "memory"}')
    assert states()["baseline/2"] == "failed"
    claim = take(run)
    with pytest.raises(SystemExit) as stop:
        main(["compare", "two.yaml", "only=baseline/2"])
    assert stop.value.code == 0
    assert "trained by process" in capsys.readouterr().out
    assert states()["baseline/2"] == "running"
    with pytest.raises(SystemExit):
        main(["compare", "two.yaml", "status=True"])
    assert "1 running" in capsys.readouterr().out
    release(run, claim)
    run.with_name("seed2.json").unlink()
    run.with_name("seed2.log").write_text("")
    assert states()["baseline/2"] == "interrupted"
    assert states()["attention/1"] == "done"
    assert sorted(p for p in folder.rglob("*") if p not in before and p.name != ".claims.lock") == [
        run.parent,
        run.with_name("seed2.log"),
    ]


def test_emit_jobs__have_a_task_for_each_run(recipe):
    found = yolo_mha.emit_jobs("two.yaml")
    assert found.runs == ["baseline/0", "attention/0", "baseline/1", "attention/1", "baseline/2", "attention/2"]
    for file in (found.array, found.conclude, found.submit):
        assert os.access(file, os.X_OK)
        subprocess.run(["bash", "-n", file], check=True)
    assert "#SBATCH --array=0-5\n" in Path(found.array).read_text()
    plans = json.loads((Path(found.save_dir) / "plan.json").read_text())
    assert len(plans) == 1
    assert yolo_mha.emit_jobs("two.yaml", seeds=[0, 1, 2, 3]).save_dir == found.save_dir


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["only=attention/9"], "The comparison has no such run."),
        (["only=3"], "The comparison has no such run."),
        (["only=attention/1", "conclude=True"], "These settings cannot be combined."),
        (["only=attention/1", "dry_run=True"], "These settings cannot be combined."),
        (["emit=pbs"], "Unknown scheduler."),
        (["emit=slurm", "seeds=0,1,2,3", "looks=3"], "looks cannot be combined with only or emit."),
        (["only=attention/0", "seeds=0,1,2,3", "looks=3"], "looks cannot be combined with only or emit."),
        (["status=True", "seeds=0"], "status does not take seeds."),
        (["status=1"], "status must be True or False."),
        (["status=True"], "There is no such comparison."),
        (["status=True", "name=../x"], "There is no such comparison."),
    ],
    ids=" ".join,
)
def test_bad_input(recipe, words, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", *(["two.yaml"] if "name=../x" not in words else []), *words])
    assert stop.value.code == 2
    assert problem in capsys.readouterr().err
    assert not Path("runs").exists()


def test_train_run__of_given_runs(beacons):
    models = {arm: {0: str(shipped("weights") / f"demo-{name}.pt")} for arm, name in ARMS.items()}
    content = {"data": str(beacons), "arms": {name: {"models": own} for name, own in models.items()}}
    Path("given.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="Its runs are given"):
        yolo_mha.train_run("given.yaml", only="attention/0")


@pytest.mark.slow
def test_job_array__shuffled_and_doubled_and_killed_is_as_one_process(recipe, tmp_path):
    """The commands of the array, each twice and in any order; one is killed while it trains, and comes again."""
    jobs = yolo_mha.emit_jobs("two.yaml", epochs=3)
    folder, tasks = Path(jobs.save_dir), [*range(6)] * 2
    random.Random(0).shuffle(tasks)

    def start(task: int) -> subprocess.Popen:
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([jobs.array], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    victim = start(3)
    run = folder / "arms" / "attention" / "seed1"
    while not (run / "weights" / "last.pt").exists():
        assert victim.poll() is None
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    for i in range(0, len(tasks), 4):
        assert [process.wait() for process in [start(task) for task in tasks[i : i + 4]]] == [0] * 4
    assert set(states().values()) == {"done"}
    assert {read_run(folder, arm, seed).resumed for arm in ("baseline", "attention") for seed in (0, 2)} == {0}
    assert read_run(folder, "attention", 1).resumed == 1
    subprocess.run([jobs.conclude], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((folder / "compare.json").read_text())
    local = yolo_mha.run_recipe("two.yaml", epochs=3, project=tmp_path / "local")
    others = [r for r in range(6) if jobs.runs[r] != "attention/1"]  # that one went on from half precision
    assert [found["runs"][r]["metrics"] for r in others] == [local.as_dict()["runs"][r]["metrics"] for r in others]
    assert found["notes"]
