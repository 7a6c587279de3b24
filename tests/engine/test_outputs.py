import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_predict import make_video, records

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine.outputs import _folder_name
from yolo_mha.engine.video import VideoWriter

ALL = {"save_txt": True, "save_conf": True, "save_json": True, "save_csv": True, "save_crop": True}


def test_outputs__all_kinds_tell_the_same(tmp_path):
    cv2.imwrite("x.png", draw(1, 0)[0])
    make_video(tmp_path / "v.avi", 3)
    result = yolo_mha.predict(source=["x.png", "v.avi"], imgsz=192, save_frames=True, **ALL)
    lines, folder = records(result), Path(result.save_dir)
    flat = [(line, d) for line in lines for d in line["detections"]]
    assert len(flat) > 10
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["source"], int(r["frame"]), r["name"], float(r["score"])) for r in rows] == [
        (line["source"], line["frame"], d["name"], d["score"]) for line, d in flat
    ]
    assert [[float(r[c]) for c in ("x1", "y1", "x2", "y2")] for r in rows] == [d["box"] for _, d in flat]
    coco = json.loads((folder / "predictions.json").read_text())
    assert [(c["category_id"], c["score"], c["bbox"][:2]) for c in coco] == [
        (d["class"], d["score"], d["box"][:2]) for _, d in flat
    ]
    assert {c["image_id"] for c in coco} == {"x", "v_0", "v_1", "v_2"}
    names = {"x.txt", "v_0.txt", "v_1.txt", "v_2.txt"}
    assert {p.name for p in (folder / "labels").iterdir()} == names
    for line in lines:
        stem = Path(line["source"]).stem
        label = folder / "labels" / ("x.txt" if stem == "x" else f"v_{line['frame']}.txt")
        read = [[float(v) for v in row.split()] for row in label.read_text().splitlines()]
        assert len(read) == len(line["detections"])
        for (index, x, _, w, _, score), d in zip(read, line["detections"], strict=True):
            assert (index, score) == (d["class"], pytest.approx(d["score"], rel=1e-4))
            assert (x - w / 2) * line["width"] == pytest.approx(d["box"][0], abs=0.01)
    assert len(list((folder / "crops").rglob("*.jpg"))) == len(flat)
    assert (folder / "x.jpg").is_file()
    assert (folder / "v.mp4").is_file()
    assert len(list((folder / "v_frames").iterdir())) == 3
    assert set(result.outputs) == {"jsonl", "json", "csv", "labels", "crops", "annotated", "frames"}


def test_outputs__only_what_was_asked_for():
    cv2.imwrite("x.png", draw(1, 0)[0])
    result = yolo_mha.predict(source="x.png", save=False)
    assert [p.name for p in Path(result.save_dir).iterdir()] == ["predictions.jsonl"]
    assert result.notes == []


def test_outputs__same_names_in_different_folders_stay_apart(tmp_path):
    for i, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        cv2.imwrite(f"{folder}/x.png", draw(1, i)[0])
        make_video(tmp_path / folder / "x.avi", 2)
    result = yolo_mha.predict(source="*/x.*", imgsz=192, **ALL)
    folder = Path(result.save_dir)
    assert {p.name for p in folder.iterdir() if p.is_file()} == {
        *("x.jpg", "x-2.jpg", "x-3.mp4", "x-4.mp4"),
        *("predictions.jsonl", "predictions.json", "predictions.csv"),
    }
    labels = {p.stem for p in (folder / "labels").iterdir()}
    assert labels == {"x", "x-2", "x-3_0", "x-3_1", "x-4_0", "x-4_1"}
    first, second = (cv2.imread(str(folder / name)) for name in ("x.jpg", "x-2.jpg"))
    assert np.abs(first.astype(int) - draw(1, 0)[0]).mean() < np.abs(second.astype(int) - draw(1, 0)[0]).mean()


def test_outputs__coco_results_are_scored_by_val(beacons):
    images = beacons.parent / "images" / "val"
    predicted = yolo_mha.predict(source=images, conf=0.01, save=False, save_json=True, imgsz=192)
    scored = yolo_mha.val(predictions=predicted.outputs["json"], data=beacons, plots=False)
    assert scored.coco.metrics["AP50"] > 0.9


def test_outputs__a_run_in_the_same_folder_replaces_the_files():
    cv2.imwrite("x.png", draw(1, 0)[0])
    first, second = (yolo_mha.predict(source="x.png", name="same", exist_ok=True, **ALL) for _ in range(2))
    assert first.save_dir == second.save_dir
    found = sum(second.found.values())
    for file in ("labels/x.txt", "predictions.csv", "predictions.json"):
        lines = (Path(second.save_dir) / file).read_text().splitlines()
        assert len(lines) - {".txt": 0, ".csv": 1, ".json": 2}[Path(file).suffix] == found


def test_outputs__nothing_found_is_valid_too():
    cv2.imwrite("x.png", np.zeros((64, 64, 3), np.uint8))
    result = yolo_mha.predict(source="x.png", conf=0.99, **ALL)
    assert result.found == {}
    assert json.loads(Path(result.outputs["json"]).read_text()) == []
    assert len(Path(result.outputs["csv"]).read_text().splitlines()) == 1


def test_outputs__drawing_settings_reach_the_picture():
    cv2.imwrite("x.png", draw(1, 0)[0])
    plain, bare, thick = (
        cv2.imread(yolo_mha.predict(source="x.png", **s).outputs["annotated"])
        for s in ({}, {"show_boxes": False}, {"line_width": 9})
    )
    assert np.abs(bare.astype(int) - draw(1, 0)[0]).mean() < 5
    assert (plain != bare).any()
    assert (plain != thick).any()


@pytest.mark.parametrize("fps", [29.97, 30 / 7, 12.5])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (641, 355)])
def test_video_writer__keeps_rate_and_size(tmp_path, fps, width, height):
    writer = VideoWriter(tmp_path / "v.x", fps, width, height)
    for i in range(5):
        writer.write(np.full((height, width, 3), 40 * i, np.uint8))
    writer.write(np.zeros((10, 10, 3), np.uint8))
    writer.close()
    video = cv2.VideoCapture(str(writer.path))
    shapes = []
    while True:
        read, image = video.read()
        if not read:
            break
        shapes.append(image.shape)
    assert shapes == [(height, width, 3)] * 6
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, abs=1e-3)


def test_outputs__stride_keeps_the_length_of_a_video(tmp_path):
    result = yolo_mha.predict(source=make_video(tmp_path / "v.avi", 8, fps=12), vid_stride=2, imgsz=192)
    video = cv2.VideoCapture(result.outputs["annotated"])
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (4, 6)
    assert [line["frame"] for line in records(result)] == [1, 3, 5, 7]


@pytest.mark.parametrize(("name", "folder"), [("a/b", "a_b"), ("../../x", "__.._x"), ("", "_"), ("red car", "red car")])
def test_crops__a_class_name_leads_to_no_other_folder(name, folder):
    assert _folder_name(name) == folder
