"""Comparisons and predictions on a Ray cluster whose nodes are processes of this machine."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import yaml

import yolo_mha
from yolo_mha import ConfigError, DataError, DependencyError, UnsupportedTaskError
from yolo_mha.cli import main
from yolo_mha.cluster.ray_predict import BulkPrediction
from yolo_mha.data.beacons import draw
from yolo_mha.evaluation.runs import read_run

NODES = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A cluster of a head and a node, with one CPU each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        cluster = Cluster(initialize_head=True, head_node_args={**NODES, "include_dashboard": False})
        cluster.add_node(**NODES)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def recipe(beacons, tiny) -> Path:
    arms = {arm: f"demo-{name}.yaml" for arm, name in (("baseline", "baseline"), ("attention", "mha"))}
    content = {"name": "two", "data": str(beacons), "arms": arms, "seeds": [0, 1, 2], "train": tiny}
    Path("two.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Path("two.yaml")


def on_ray(address: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "yolo_mha", "compare", "two.yaml", "engine=ray", f"address={address}"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "gpus_per_run=0", *words], env=ENVIRONMENT, **output)


def scores(found: dict) -> list:
    return [(run["arm"], run["seed"], run["state"], run["metrics"], run["curve"]) for run in found["runs"]]


@pytest.mark.slow
def test_train_runs__of_a_plan(cluster, recipe):
    from yolo_mha.cluster.ray_cluster import Resources, joined
    from yolo_mha.cluster.ray_runs import _train_runs
    from yolo_mha.evaluation.folder import join_folder
    from yolo_mha.evaluation.plan import prepare
    from yolo_mha.evaluation.recipe import read_recipe

    plan = prepare(read_recipe(recipe, {}))
    folder, before = join_folder(plan), signal.getsignal(signal.SIGTERM)
    with joined(cluster.address):
        assert signal.getsignal(signal.SIGTERM) is before
        (run,) = _train_runs(plan, folder, [("attention", 1)], Resources(1, 0, "run"))
    assert (run.arm, run.seed, run.state, run.epochs, run.resumed) == ("attention", 1, "done", 1, 0)
    assert run.hardware["threads"] == ["1"]
    assert not list(folder.rglob("*.claim"))


@pytest.mark.slow
def test_compare__on_a_cluster_is_as_here(cluster, recipe):
    process = on_ray(cluster.address, "--json", "seeds=0")
    answer, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    found = json.loads(answer)
    assert "attention, seed 0: epoch 1" in said
    assert "ray" not in said.lower()
    here = subprocess.run(
        [sys.executable, "-m", "yolo_mha", "compare", "two.yaml", "seeds=0", "project=local", "--json"],
        env=ENVIRONMENT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert scores(found) == scores(json.loads(here.stdout))
    assert found["runs"][0]["resumed"] == 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"address": "127.0.0.1:1"}, "no Ray cluster that can be used"),
        ({"address": "ray://127.0.0.1:10001"}, "no Ray cluster that can be used"),
        ({"address": ""}, "no Ray cluster that can be used"),
        ({"address": 5}, "no Ray cluster that can be used"),
        ({"gpus_per_run": 2}, "A run uses one GPU"),
        ({"gpus_per_run": -1}, "A run uses one GPU"),
        ({"gpus_per_run": "all"}, "A run uses one GPU"),
        ({"gpus_per_run": 1}, "Ray chooses the GPU"),
        ({"cpus_per_run": 0}, "cpus_per_run must be a whole number"),
    ],
    ids=str,
)
def test_compare_on_ray__bad_input(recipe, settings, problem):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=problem):
        yolo_mha.compare_on_ray(recipe, **{"gpus_per_run": 0, **settings})
    assert not Path("runs").exists()


@pytest.mark.slow
def test_compare__no_machine_has_room(cluster, recipe):
    process = on_ray(cluster.address, "cpus_per_run=64")
    _, said = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "cpus_per_run=64 gpus_per_run=0; the machines have 1 CPU, 0 GPU; 1 CPU, 0 GPU" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["engine=dask"], "Unknown engine."),
        (["engine=ray", "only=attention/0"], "These settings cannot be combined."),
        (["engine=ray", "dry_run=True"], "These settings cannot be combined."),
        (["cpus_per_run=2"], "cpus_per_run needs engine=ray."),
    ],
    ids=" ".join,
)
def test_engine__bad_input(recipe, words, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(recipe), *words])
    assert stop.value.code == 2
    assert problem in capsys.readouterr().err


def test_compare_on_ray__says_what_to_install(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install 'yolo-mha\[ray\]'"):
        yolo_mha.compare_on_ray(recipe, gpus_per_run=0)


@pytest.mark.slow
def test_compare__with_nodes_that_are_killed_is_as_here(cluster, recipe, tmp_path):
    """A node is killed at ten moments, and another comes; the driver is killed once, and started again."""
    chance, folder, seeds = random.Random(0), tmp_path / "runs" / "compare" / "two", "seeds=0,1,2,3,4"
    keys = [(arm, seed) for seed in range(5) for arm in ("baseline", "attention")]
    node = next(n for n in cluster.list_all_nodes() if n is not cluster.head_node)
    finished: dict[tuple[str, int], int] = {}
    driver = on_ray(cluster.address, seeds)
    for kill in range(10):
        until = time.monotonic() + chance.uniform(2, 8)
        while time.monotonic() < until or (kill == 0 and not list(folder.rglob("seed*.log"))):
            time.sleep(0.1)
            for key in keys:
                end = read_run(folder, *key).folder / "end.json"
                if end.exists():
                    assert finished.setdefault(key, end.stat().st_mtime_ns) == end.stat().st_mtime_ns
        states = {f"{arm}/{seed}": read_run(folder, arm, seed) for arm, seed in keys}
        going = [name for name, run in states.items() if run.state == "running" and run.log.exists()]
        assert len(finished) < len(keys)  # it is still training
        print(f"kill {kill + 1}: {len(finished)} of 10 done, begun: {', '.join(going) or '-'}")
        cluster.remove_node(node, allow_graceful=False)
        if kill == 4:
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
            driver = on_ray(cluster.address, seeds)
        node = cluster.add_node(**NODES)
    _, said = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    assert {key: (folder / "arms" / key[0] / f"seed{key[1]}" / "end.json").stat().st_mtime_ns for key in finished} == (
        finished
    )
    found = json.loads((folder / "compare.json").read_text())
    subprocess.run(
        [sys.executable, "-m", "yolo_mha", "compare", "two.yaml", seeds, "project=local"],
        env=ENVIRONMENT, check=True, capture_output=True,
    )  # fmt: skip
    local = json.loads(Path("local/two/compare.json").read_text())
    assert scores(found) == scores(local)
    assert [c["verdict"] for c in found["contrasts"]] == [c["verdict"] for c in local["contrasts"]]


def pictures(folder: Path, count: int) -> Path:
    """Write pictures of the demo's task, and one that is cut off."""
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), draw(seed=1, index=i)[0])
    whole = (folder / "0002.jpg").read_bytes()
    (folder / "0002.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def bulk(address: str, source: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "yolo_mha", "predict", "model=demo-mha.pt", f"source={source}", "engine=ray"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = f"address={address}", "gpus_per_worker=0", "device=cpu", "--json", *words
    return subprocess.Popen([*command, *words], env=ENVIRONMENT, **output)


def by_picture(files: list[Path]) -> dict[str, list]:
    """Return detections by picture; each picture is there once."""
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    found = {record["source"]: record["detections"] for record in records}
    assert len(found) == len(records)
    return found


@pytest.mark.slow
def test_predict__on_a_cluster_is_as_here(cluster, tmp_path):
    source = pictures(tmp_path / "photos", 12)

    def on_cluster(**settings) -> BulkPrediction:
        where = {"address": cluster.address, "gpus_per_worker": 0}
        return yolo_mha.predict_on_ray("demo-mha.pt", source, **where, shard=5, device="cpu", **settings)

    result = on_cluster()
    assert (result.exit_code, result.images, result.shards_done, result.shards_found) == (1, 11, 3, 0)
    shards = sorted(Path(result.shards).glob("*.jsonl"))
    assert [file.name for file in shards] == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]
    here = yolo_mha.predict("demo-mha.pt", source, device="cpu", save=False)
    assert by_picture(shards) == by_picture([Path(here.predictions)])
    assert result.found == here.found
    assert result.skipped == here.skipped

    (Path(result.shards) / "00001.json").unlink()  # as of a shard that was lost
    before = [file.stat().st_mtime_ns for file in shards]
    again = on_cluster(batch=2)
    assert (again.images, again.shards_done, again.shards_found) == (11, 1, 2)
    same = [time == file.stat().st_mtime_ns for time, file in zip(before, shards, strict=True)]
    assert same == [True, False, True]
    assert by_picture(shards).keys() == by_picture([Path(here.predictions)]).keys()
    with pytest.raises(ConfigError, match="other settings"):
        on_cluster(conf=0.5)


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"save": True}, ConfigError, "save is not for engine=ray"),
        ({"vid_stride": 2}, ConfigError, "vid_stride is not for engine=ray"),
        ({"gpus_per_worker": 1.5}, ConfigError, "A worker uses one GPU"),
        ({"gpus_per_worker": 1, "device": "0"}, ConfigError, "Ray chooses the GPU"),
        ({"classes": "cat"}, ConfigError, "no such class"),
        ({"conf": 2}, ConfigError, "conf"),
        ({"source": None}, DataError, "source is missing"),
        ({"source": "missing"}, DataError, "Source not found"),
        ({"model": "yolo11n-seg.yaml"}, UnsupportedTaskError, "box detection only"),
        ({"address": "127.0.0.1:1"}, ConfigError, "no Ray cluster that can be used"),
    ],
    ids=str,
)
def test_predict_on_ray__bad_input(tmp_path, settings, error, problem):
    pytest.importorskip("ray")
    source = pictures(tmp_path / "photos", 3)
    with pytest.raises(error, match=problem):
        yolo_mha.predict_on_ray(**{"model": "demo-mha.pt", "source": source, "gpus_per_worker": 0, **settings})
    assert not Path("runs").exists()


def test_predict_on_ray__takes_no_videos(tmp_path):
    video = cv2.VideoWriter("video.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 64))
    for _ in range(5):
        video.write(np.zeros((64, 64, 3), np.uint8))
    video.release()
    with pytest.raises(DataError, match="pictures only"):
        yolo_mha.predict_on_ray("demo-mha.pt", ["video.avi", *pictures(tmp_path / "photos", 3).iterdir()])


@pytest.mark.slow
def test_predict__2000_pictures_with_a_worker_and_a_node_killed(cluster, tmp_path):
    source = pictures(tmp_path / "photos", 2000)
    process, shards = (
        bulk(cluster.address, source, "shard=50", "imgsz=96"),
        tmp_path / "runs" / "detect" / "bulk" / "shards",
    )
    node = next(n for n in cluster.list_all_nodes() if n is not cluster.head_node)
    while len(list(shards.glob("*.json"))) < 8:
        assert process.poll() is None
        time.sleep(0.1)
    workers = [p for p in psutil.process_iter(["cmdline"]) if "_Worker" in " ".join(p.info["cmdline"] or [])]
    assert workers
    workers[0].kill()
    while len(list(shards.glob("*.json"))) < 20:
        assert process.poll() is None
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(**NODES)
    answer, said = process.communicate(timeout=600)
    assert process.returncode == 1, said
    assert json.loads(answer)["images"] == 1999
    here = yolo_mha.predict("demo-mha.pt", source, device="cpu", save=False, imgsz=96)
    assert by_picture(sorted(shards.glob("*.jsonl"))) == by_picture([Path(here.predictions)])
    assert not list(shards.glob(".unfinished*"))
