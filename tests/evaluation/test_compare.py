import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import yaml

import yolo_mha
from yolo_mha.errors import CheckpointError, ConfigError, ModelError, RunError, UnsupportedTaskError
from yolo_mha.evaluation.arms import CHILD
from yolo_mha.paths import shipped

DEMO = shipped("weights") / "demo-baseline.pt"


def test_compare__trains_scores_and_reports(beacons, tiny, tmp_path):
    result = yolo_mha.compare(
        model="demo-baseline.yaml",
        attention="demo-mha.yaml",
        control="demo-conv.yaml",
        data=str(beacons),
        jobs=2,
        **{**tiny, "imgsz": 60},  # not a multiple of the stride
    )
    folder = Path(result.save_dir)
    assert list(result.arms) == ["baseline", "attention", "control"]
    assert folder == tmp_path / "runs" / "compare" / "compare"
    written = json.loads((folder / "compare.json").read_text())
    assert written == json.loads(json.dumps(result.as_dict()))
    for arm in result.arms.values():
        assert len(arm.metrics) == 12
        assert len(arm.curve) == 1
        assert (folder / arm.weights).exists()
        assert arm.cost.latency_ms > 0
    base, attention = result.arms["baseline"], result.arms["attention"]
    assert base.cost.latency_ratio == 1
    assert attention.cost.parameters > base.cost.parameters
    assert attention.delta["AP50"] == attention.metrics["AP50"] - base.metrics["AP50"]
    assert cv2.imread(str(folder / "detections.png")).shape[1] == 4 * 384
    page = (folder / "report.html").read_text()
    assert "One seed is a demonstration, not evidence" in page
    assert "demo-mha.yaml" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # opens without a network

    log = (folder / "arms" / "attention.log").read_text()
    assert "SpatialMHABlock" in log
    arguments = [yaml.safe_load((folder / "arms" / a / "args.yaml").read_text()) for a in ("baseline", "attention")]
    differing = {k for k in arguments[0] if arguments[0][k] != arguments[1][k]}
    assert differing == {"model", "name", "save_dir"}


def test_compare__puts_attention_into_a_checkpoint_and_keeps_its_weights(beacons, tiny):
    result = yolo_mha.compare(model=str(DEMO), at="neck", num_heads=2, freeze_base=1, data=str(beacons), **tiny)
    assert result.arms["attention"].model == f"{DEMO} at=neck freeze_base=1 num_heads=2"
    folder = Path(result.save_dir) / "arms" / "attention"
    transfer = json.loads((folder / "attention.json").read_text())["transfer"]
    assert transfer["moved"] == transfer["total"]
    saved = yaml.safe_load((Path(result.save_dir) / "recipe.yaml").read_text())
    assert saved["arms"]["attention"] == {"model": str(DEMO), "at": "neck", "freeze_base": 1, "num_heads": 2}
    assert result.arms["baseline"].metrics["AP50"] > 0  # both start from weights that know the task


def test_compare__a_failed_arm_is_one_error_with_its_log(beacons, tiny):
    with pytest.raises(RunError, match="failed") as caught:
        yolo_mha.compare(
            model="demo-baseline.yaml", attention="demo-mha.yaml", data=str(beacons), **tiny, copy_paste_mode="banana"
        )
    assert ".log" in caught.value.fix
    assert "got banana" in caught.value.given


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("arms: [", "not readable"),
        ("- 1", "holds no settings"),
        ("data: x.yaml\narmz: {}", "did you mean arms"),
        ("data: x.yaml", "lacks 'arms'"),
        ("data: x.yaml\narms: {a: x}\ntrain: [1]", "holds no settings"),
        ("[" * 3000, "not readable"),
        ("data: x.yaml\narms: {a: yolov8n.yaml}", "nothing to compare"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: yolov8n.yaml}\ntrain: {epoch: 1}", "did you mean epochs"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: yolov8n.yaml}\njobs: 0", "positive integer"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: yolov8n.yaml}\ntrain: {resume: true}", "set for each arm"),
    ],
)
def test_recipe__says_what_is_wrong(tmp_path, content, words):
    (tmp_path / "r.yaml").write_text(content)
    with pytest.raises(ConfigError, match=words):
        yolo_mha.compare(tmp_path / "r.yaml")
    assert not Path("runs").exists()


def test_train_arms__know_the_blocks_of_the_user(tmp_path):
    """The process of an arm imports the modules of all registered blocks."""
    (tmp_path / "mine.py").write_text(
        "import torch, yolo_mha\n\n@yolo_mha.register\nclass Mine(torch.nn.Identity):\n    pass\n"
    )
    (tmp_path / "m.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Mine, []]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    command = [sys.executable, "-c", CHILD, "mine", "train", "model=m.yaml", "data=nowhere.yaml"]
    path = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=path)
    assert "Dataset YAML not found" in done.stderr, done.stderr


def test_train_arms__import_nothing_from_the_working_directory(tmp_path):
    (tmp_path / "typer.py").write_text("open('ran', 'w')")
    command = [sys.executable, "-c", CHILD, "train", "model=nowhere.yaml", "data=nowhere.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "Model YAML not found" in done.stderr, done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x", "pretrained": "a.pt"}, CheckpointError),
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x", "pretrained": str(DEMO)}, ModelError),
        (
            {"model": "demo-baseline.yaml", "attention": "demo-conv.yaml", "data": "x", "pretrained": str(DEMO)},
            ModelError,
        ),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "at": "P5", "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "at": "P9", "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "at": "P5", "freeze_base": -1, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n.yaml", "freeze_base": 1, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "num_heads": 4, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "at": "P5", "num_heads": 7, "data": "x"}, ModelError),
        ({"model": "yolov8n.yaml", "at": "P5", "num_haeds": 4, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "data": "x", "imgsz": [64, 96]}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "nowhere.pt", "data": "x"}, CheckpointError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "data": "x", "name": "../up"}, ConfigError),
        ({}, ConfigError),
        ({"model": "yolov8n.yaml"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "nowhere.yaml", "data": "x.yaml"}, ModelError),
        ({"model": "yolov8n-seg.yaml", "attention": "yolov8n-seg.yaml", "data": "x.yaml"}, UnsupportedTaskError),
        ({"recipe": "nowhere.yaml"}, ConfigError),
    ],
)
def test_compare__refuses_before_anything_is_trained(settings, error):
    with pytest.raises(error):
        yolo_mha.compare(**settings)
    assert not Path("runs").exists()
