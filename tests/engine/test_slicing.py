import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_predict import records

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.errors import DependencyError


@pytest.fixture
def mosaic() -> tuple[str, np.ndarray]:
    """A picture of 4 x 4 beacons images, and its boxes: class, x1, y1, x2, y2 in pixels."""
    picture, boxes = np.zeros((768, 768, 3), np.uint8), []
    for i in range(16):
        image, labels = draw(1, i)
        y, x = 192 * (i // 4), 192 * (i % 4)
        picture[y : y + 192, x : x + 192] = image
        for c, cx, cy, w, h in labels:
            corners = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * 192
            boxes.append([c, *(corners + [x, y, x, y])])
    cv2.imwrite("mosaic.png", picture)
    return "mosaic.png", np.array(boxes)


def recall(record: dict, boxes: np.ndarray) -> float:
    """Share of the boxes that are found, with their class and an IoU of half."""
    found = np.array([[d["class"], *d["box"]] for d in record["detections"]]).reshape(-1, 5)
    hits = 0
    for c, x1, y1, x2, y2 in boxes:
        same = found[found[:, 0] == c]
        w = np.minimum(same[:, 3], x2) - np.maximum(same[:, 1], x1)
        h = np.minimum(same[:, 4], y2) - np.maximum(same[:, 2], y1)
        both = np.clip(w, 0, None) * np.clip(h, 0, None)
        area = (same[:, 3] - same[:, 1]) * (same[:, 4] - same[:, 2]) + (x2 - x1) * (y2 - y1)
        hits += bool((both / (area - both) > 0.5).any())
    return hits / len(boxes)


def test_slice__finds_small_objects_of_a_large_picture(mosaic):
    path, boxes = mosaic
    whole, tiles = (yolo_mha.predict(source=path, imgsz=192, **s) for s in ({}, {"slice": 192, "overlap": 0}))
    assert recall(records(whole)[0], boxes) < 0.4
    assert recall(records(tiles)[0], boxes) > 0.9
    assert tiles.images == 1
    assert (records(tiles)[0]["width"], records(tiles)[0]["height"]) == (768, 768)
    assert cv2.imread(tiles.outputs["annotated"]).shape == (768, 768, 3)


def test_slice__an_object_in_two_tiles_comes_once():
    """Two tiles, height 192 and 128 wide, of one picture: most objects are in both."""
    image = draw(1, 0)[0]
    cv2.imwrite("x.png", image)
    result = records(yolo_mha.predict(source="x.png", imgsz=192, slice=[192, 160], overlap=0.8, save=False))[0]
    boxes = np.array([d["box"] for d in result["detections"]])
    classes = [d["class"] for d in result["detections"]]
    for i in range(len(boxes)):
        for j in range(i):
            w = min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0])
            h = min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1])
            smaller = min(np.prod(boxes[i][2:] - boxes[i][:2]), np.prod(boxes[j][2:] - boxes[j][:2]))
            assert classes[i] != classes[j] or max(w, 0) * max(h, 0) / smaller <= 0.5
    scores = [d["score"] for d in result["detections"]]
    assert scores == sorted(scores, reverse=True)
    assert len(boxes) > 2


def test_slice__one_tile_is_the_whole_picture():
    cv2.imwrite("x.png", draw(1, 0)[0])
    plain, tiles = (yolo_mha.predict(source="x.png", imgsz=192, **s) for s in ({}, {"slice": 640}))
    for a, b in zip(records(plain)[0]["detections"], records(tiles)[0]["detections"], strict=True):
        assert a == b


def test_slice__limits_and_video(mosaic, tmp_path):
    path, _ = mosaic
    writer = cv2.VideoWriter("m.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (768, 768))
    for _ in range(2):
        writer.write(cv2.imread(path))
    writer.release()
    result = yolo_mha.predict(
        source="m.mp4", imgsz=192, slice=192, overlap=0, max_det=7, classes=[1], save_txt=True, agnostic_nms=True
    )
    assert [len(r["detections"]) for r in records(result)] == [7, 7]
    assert set(result.found) == {"night"}
    assert Path(result.outputs["annotated"]).suffix == ".mp4"


def test_slice__an_empty_picture():
    cv2.imwrite("x.png", np.zeros((300, 300, 3), np.uint8))
    assert yolo_mha.predict(source="x.png", slice=192, conf=0.9).found == {}


def test_slice__names_the_package_that_is_missing(monkeypatch):
    cv2.imwrite("x.png", draw(1, 0)[0])
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DependencyError, match=r"yolo-mha\[slice\]"):
        yolo_mha.predict(source="x.png", slice=192)
    assert not Path("runs").exists()
