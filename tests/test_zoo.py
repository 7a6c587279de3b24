"""What the models cost, as benchmarks/results/zoo.json and the page of it say."""

import json
import sys
from pathlib import Path

import pytest

from yolo_mha.paths import shipped

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import docs_tables
import zoo

FAMILIES = json.loads(zoo.RESULTS.read_text(encoding="utf-8"))["families"]


def test_zoo__has_every_model_at_every_scale():
    for family, (names, scales, imgsz) in zoo.ZOO.items():
        assert FAMILIES[family]["imgsz"] == imgsz
        assert {name: list(own) for name, own in FAMILIES[family]["counts"].items()} == {n: list(scales) for n in names}
    shown = {name for names, _, _ in zoo.ZOO.values() for name in names}
    assert {file.name for file in (shipped("cfg") / "models").glob("*.yaml")} <= shown


@pytest.mark.parametrize(
    ("family", "name", "scale"), [("demo", "demo-mha.yaml", ""), ("yolo11", "yolo11-mha-p5.yaml", "n")]
)
def test_zoo__counts_are_those_of_the_models(family, name, scale):
    found = zoo.count(name, scale, FAMILIES[family]["imgsz"])
    assert found == pytest.approx(FAMILIES[family]["counts"][name][scale], rel=1e-6)


def test_page__has_latency_beside_the_model_without_blocks(tmp_path, monkeypatch):
    zoo.main(["--out", str(tmp_path / "zoo.json"), "--only", "demo"])
    monkeypatch.setattr(docs_tables, "ZOO", tmp_path / "zoo.json")
    rows = [line.split(" | ") for line in docs_tables.zoo().splitlines() if line.startswith("| `demo")]
    assert [row[0].strip("| ") for row in rows] == [
        "`demo-baseline.yaml`",
        "`demo-mha.yaml`",
        "`demo-baseline.yaml` again (A/A)",
    ]
    assert rows[0][3].endswith(", 1.00 (1.00 to 1.00) |")
