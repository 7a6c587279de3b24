"""The command `explain`: its files, its numbers, and bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from networks import opened

import yolo_mha
from yolo_mha import ConfigError, DataError, UnsupportedTaskError
from yolo_mha.cli import main
from yolo_mha.data.beacons import draw
from yolo_mha.engine.video import VideoWriter, count_frames
from yolo_mha.inspection.explanation import explained
from yolo_mha.inspection.looking import Placement
from yolo_mha.inspection.maps import detection_maps
from yolo_mha.inspection.sheet import draw_sheet, overlay

SHARES = ("box", "around", "others", "padding", "elsewhere")


@pytest.fixture
def picture() -> Path:
    cv2.imwrite("street.png", draw(seed=1, index=0)[0])
    return Path("street.png")


def test_explain__writes_sheets_overlay_page_and_numbers(picture, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", "model=demo-mha.pt", f"source={picture}", "sheets=2", "--json"])
    assert stop.value.code == 0
    result = json.loads(capsys.readouterr().out)
    folder = Path(result["save_dir"])
    assert json.loads((folder / "explain.json").read_text()) == result
    assert len(result["detections"]) == 6
    first = result["detections"][0]
    assert (first["name"], first["class"], first["frame"]) == ("beacon", 2, 0)
    assert [head["head"] for head in first["layers"][0]["heads"]] == [0, 1]
    for where in (first["together"], *first["layers"][0]["heads"]):
        assert sum(where["by_effect"][name] for name in SHARES) == pytest.approx(1)
    sheets = [d["sheet"] for d in result["detections"]]
    assert sheets[2:] == [None] * 4
    assert all(cv2.imread(sheet).shape[2] == 3 for sheet in sheets[:2])
    assert cv2.imread(str(folder / "street.jpg")).shape == (192, 192, 3)
    page = (folder / "report.html").read_text()
    assert "sheets/street_0.png" in page
    assert "http" not in page
    assert any("The other 4 are in explain.json" in note for note in result["notes"])


def test_explain__prints_a_table(picture, capsys):
    with pytest.raises(SystemExit):
        main(["explain", f"source={picture}", "sheets=0", "max_det=1"])
    out = capsys.readouterr().out
    assert "beacon 0.95" in out
    assert "report:" in out


def test_explain__one_box_one_head_one_layer(picture):
    result = yolo_mha.explain("demo-mha.pt", picture, box=(18, 125, 36, 144), head=1, layer=5, sheets=0)
    (found,) = result.detections
    assert found.name == "night"
    assert [where.head for where in found.layers[0].heads] == [1]
    assert found.together.effect == pytest.approx(found.layers[0].heads[0].effect)


def test_explain__classes(picture):
    result = yolo_mha.explain("demo-mha.pt", picture, classes=2, sheets=0)
    assert [found.name for found in result.detections] == ["beacon"]


def test_explain__video(tmp_path):
    writer = VideoWriter(tmp_path / "clip", 10, 192, 192)
    for index in range(4):
        writer.write(draw(seed=1, index=index)[0])
    writer.close()
    result = yolo_mha.explain("demo-mha.pt", writer.path, vid_stride=2)
    assert (result.images, {found.frame for found in result.detections}) == (2, {1, 3})
    assert count_frames(result.outputs["overlays"]) == 2
    assert "sheets" not in result.outputs


def test_explain__a_wide_picture_has_padding(tmp_path):
    cv2.imwrite("wide.png", np.hstack([draw(seed=1, index=0)[0]] * 2)[:, 60:])
    result = yolo_mha.explain("demo-mha.pt", "wide.png", rect=False, sheets=0)
    assert result.detections
    assert all(0 < found.together.by_attention.padding < 1 for found in result.detections)
    assert all(found.box[2] <= 324 for found in result.detections)


@pytest.mark.slow
def test_explain__several_blocks_and_scales(picture):
    """Windows at P3, pooled keys, and queries and keys of different maps."""
    for name in ("yolov8n-mha-p3.yaml", "yolov8n-mha-p4kv-p5.yaml", "yolov8n-mha-cross.yaml"):
        result = yolo_mha.explain(opened(name), picture, conf=1e-7, max_det=1, imgsz=128, name=name)
        (found,) = result.detections
        assert all(layer.together.effect > 0 for layer in found.layers)
        assert Path(found.sheet).is_file()


def test_explain__nothing_detected_is_no_fault(picture, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", f"source={picture}", "conf=0.999", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (stop.value.code, result["detections"]) == (0, [])
    assert "In 1 of 1 images or frames nothing was detected. A lower conf detects more." in result["notes"]
    assert Path(result["outputs"]["report"]).is_file()


def test_explain__a_broken_picture_is_named_and_the_others_are_explained(picture, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = yolo_mha.explain("demo-mha.pt", tmp_path, sheets=0)
    assert (result.images, result.exit_code, len(result.skipped)) == (1, 1, 1)


def test_explain__replaces_no_picture_that_it_explains(tmp_path):
    photo = tmp_path / "photos" / "x.jpg"
    photo.parent.mkdir()
    cv2.imwrite(str(photo), draw(1, 0)[0])
    before = photo.read_bytes()
    with pytest.raises(ConfigError, match="source is in the folder that the results go to"):
        yolo_mha.explain(source=photo, project=tmp_path, name="photos", exist_ok=True)
    assert photo.read_bytes() == before


def test_explain__an_error_in_one_picture_leaves_what_was_done_before(picture):
    (Path.cwd() / "runs/explain/explain/wide.jpg").mkdir(parents=True)  # so its overlay cannot be written
    shutil.copy(picture, "wide.png")
    with pytest.raises(yolo_mha.errors.RunError, match="Explaining stopped with an error"):
        yolo_mha.explain("demo-mha.pt", [picture, Path("wide.png")], sheets=1, exist_ok=True)
    written = json.loads(Path("runs/explain/explain/explain.json").read_text())
    assert (written["images"], len(written["detections"]), written["exit_code"]) == (1, 6, 2)
    assert (written["interrupted"], "An error ended it" in written["notes"][0]) == (False, True)
    assert "An error ended it" in Path(written["outputs"]["report"]).read_text()


def test_explain__a_picture_two_pixels_wide(looker):
    thin = np.full((2000, 2, 3), 128, np.uint8)
    look = looker(thin)
    look = replace(look, boxes=torch.tensor([[1.0, 1.0, 9.0, 30.0, 0.9, 0.0]]), anchors=torch.tensor([0]))
    maps = detection_maps(look, 0)
    found = explained(look, 0, maps, looker.names, "thin.png", 0)
    assert draw_sheet(thin, look, 0, maps, found).startswith(b"\x89PNG")


def test_explain__a_name_that_is_no_utf8(picture):
    name = os.fsdecode(b"stra\xdfe.png")
    shutil.copy(picture, name)
    result = yolo_mha.explain("demo-mha.pt", name, sheets=1, max_det=1)
    page = Path(result.outputs["report"]).read_text(encoding="utf-8")
    assert "stra\\udcdfe.png" in page
    assert 'href="sheets/stra%DFe_0.png"' in page
    assert Path(result.detections[0].sheet).is_file()


def test_explain__attention_that_does_not_run(picture):
    network = yolo_mha.YOLO("demo-mha.pt")
    network.model.model[5].b = yolo_mha.SpatialMHA(64)
    network.save("more.pt")
    result = yolo_mha.explain("more.pt", picture, max_det=1)
    assert "Attention that does not run in prediction has no maps: row 5.b." in result.notes
    assert [(layer.layer, layer.together.no_effect) for layer in result.detections[0].layers] == [
        ("5", False),
        ("5.b", True),
    ]
    with pytest.raises(ConfigError, match="No attention ran that could be explained"):
        yolo_mha.explain("more.pt", picture, layer="5.b")


@pytest.mark.parametrize(
    ("settings", "problem", "expected"),
    [
        ({"layer": 4}, "This row has no attention block", "one of 5"),
        ({"layer": "P5"}, "This row has no attention block", "one of 5"),
        ({"layer": []}, "This row has no attention block", "one of 5"),
        ({"head": 0.5}, "head has an unusable value", "numbers of heads"),
        ({"box": (0, 0, float("inf"), 5)}, "box has an unusable value", "x1,y1,x2,y2"),
        ({"head": 2}, "no such head", "0 to 1"),
        ({"head": "first"}, "head has an unusable value", "numbers of heads"),
        ({"head": True}, "head has an unusable value", "numbers of heads"),
        ({"box": (1, 2, 3)}, "box has an unusable value", "x1,y1,x2,y2"),
        ({"box": (9, 2, 3, 4)}, "box has an unusable value", "x1,y1,x2,y2"),
        ({"sheets": -1}, "sheets must be a whole number", "0 or more"),
        ({"classes": 7}, "no such class", "0 day"),
        ({"classes": "night"}, "given by index", "classes=1"),
        ({"augment": True}, "explain does not take augment", "one of"),
        ({"colour": 1}, "Unknown setting", "cos_lr"),
    ],
    ids=str,
)
def test_explain__bad_settings(picture, settings, problem, expected):
    with pytest.raises(ConfigError, match=problem) as error:
        yolo_mha.explain("demo-mha.pt", picture, **settings)
    assert expected in error.value.expected
    assert not Path("runs").exists()


def test_explain__a_model_without_blocks(picture):
    with pytest.raises(ConfigError, match="no attention blocks that can be recorded") as error:
        yolo_mha.explain("demo-baseline.pt", picture)
    assert "at=P5" in error.value.fix


def test_explain__an_exported_model(picture):
    shutil.copy(yolo_mha.YOLO("demo-mha.pt").ckpt_path, "copy.pt")
    exported = yolo_mha.YOLO("copy.pt").export(format="torchscript")
    with pytest.raises(ConfigError, match="An exported model cannot be explained"):
        yolo_mha.explain(exported, picture, trust=True)


def test_explain__another_task(picture):
    with pytest.raises(UnsupportedTaskError, match="box detection only"):
        yolo_mha.explain("yolo11n-seg.yaml", picture)


def test_explain__missing_source():
    with pytest.raises(DataError, match="Source not found"):
        yolo_mha.explain("demo-mha.pt", "nowhere.jpg")
    assert not Path("runs").exists()


def test_overlay__leaves_the_picture_where_there_is_nothing():
    picture, heat = draw(seed=1, index=0)[0], torch.zeros(24, 24)
    heat[20, 20] = 1.0
    shown = overlay(picture, Placement(192, 192, (192, 192)), heat)
    assert (shown[:96, :96] == picture[:96, :96]).all()
    assert (shown[160:168, 160:168] != picture[160:168, 160:168]).any(2).all()


@pytest.mark.slow
def test_explain__interrupted_leaves_complete_files(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(500):
        cv2.imwrite(str(pictures / f"{i:03}.png"), draw(seed=1, index=0)[0])
    command = [sys.executable, "-m", "yolo_mha", "explain", f"source={pictures}", "sheets=0", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    drawn, deadline = tmp_path / "runs" / "explain" / "explain", time.monotonic() + 60
    while len(list(drawn.glob("*.jpg"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    answer = json.loads(process.communicate(timeout=30)[0])
    assert (process.returncode, answer["interrupted"], answer["exit_code"]) == (130, True, 130)
    assert 3 <= answer["images"] == len(list(drawn.glob("*.jpg"))) < 500
    assert json.loads(Path(answer["outputs"]["numbers"]).read_text()) == answer
    assert Path(answer["outputs"]["report"]).is_file()
