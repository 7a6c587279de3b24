import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_mha.data.yolo import Sample
from yolo_mha.evaluation.coco import METRICS
from yolo_mha.evaluation.comparison import ArmResult, Comparison
from yolo_mha.evaluation.cost import Cost
from yolo_mha.evaluation.recipe import Recipe
from yolo_mha.evaluation.report import draw_detections, write_report
from yolo_mha.paths import shipped


def test_draw_detections__shows_whole_pictures_of_any_shape(tmp_path):
    samples = []
    for i, (width, height) in enumerate([(60, 240), (300, 50), (641, 355)]):
        image = np.full((height, width, 3), 90, np.uint8)
        image[-3:, -3:] = (0, 0, 255)  # a mark in the last corner
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        box = np.array([[2.0, 2.0, width / 2, height / 2]])
        samples.append(Sample(tmp_path / f"{i}.png", width, height, np.array([0]), box))
    weights = {"baseline": shipped("weights") / "demo-mha.pt"}
    path = draw_detections(weights, samples, {0: "day", 1: "night", 2: "beacon"}, tmp_path / "p.png", 64)
    picture = cv2.imread(str(path)).astype(int)
    assert picture.shape == (2 * (32 + 384), 3 * 384, 3)
    red = (picture[..., 2] - picture[..., 1]) > 60
    for row in range(2):
        for column in range(3):
            assert red[row * 416 + 32 : (row + 1) * 416, column * 384 : (column + 1) * 384].any(), (row, column)


@pytest.fixture
def report(tmp_path) -> Path:
    """A report of two made-up arms, with names that need escaping."""
    cv2.imwrite(str(tmp_path / "detections.png"), np.zeros((40, 80, 3), np.uint8))

    def arm(ap: float, delta: float) -> ArmResult:
        metrics = {**dict.fromkeys(METRICS, ap), "APlarge": -1.0}
        classes = {"<b>cat</b>": {"AP": ap, "AP50": ap}}
        cost = Cost(1000, 1.5, 10.0, 1.0 + delta)
        return ArmResult("m.yaml", "w.pt", metrics, classes, dict.fromkeys(METRICS, delta), cost, 60.0, [0.1, ap])

    comparison = Comparison(
        recipe=Recipe("x", "d.yaml", {"baseline": "a.yaml", "attention": "b.yaml"}, {"epochs": 2}, jobs=2),
        arms={"baseline": arm(0.4, 0.0), "attention": arm(0.45, 0.05)},
        settings={"imgsz": 64, "conf": 0.001},
        note="One seed is a demonstration.",
        environment={"torch": "2"},
        save_dir=str(tmp_path),
    )
    return write_report(comparison, tmp_path / "report.html")


def test_report__holds_the_numbers_and_needs_no_network(report):
    page = report.read_text()
    for text in ("0.450 <small>(+0.050)</small>", "One seed is a demonstration.", "\u00d71.05", "epochs=2", "\u2013"):
        assert text in page
    assert "<b>cat</b>" not in page
    assert "&lt;b&gt;cat" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page


@pytest.mark.parametrize("width", [1280, 500])
def test_report__opens_in_a_browser(report, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
    shot = tmp_path / "shot.png"
    command = [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600"]
    subprocess.run([*command, f"--screenshot={shot}", report.as_uri()], check=True, capture_output=True, timeout=120)
    picture = cv2.imread(str(shot))
    assert picture.shape[1] == width
    assert picture.std() > 10
