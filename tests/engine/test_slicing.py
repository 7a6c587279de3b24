import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_predict import records
from ultralytics.engine.results import Results

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine.slicing import Slicer
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


def joined(*tiles: list[list[float]], agnostic: bool = False) -> list[list[float]]:
    """Boxes, score and class of a picture of 160 x 100, of which two tiles have found x1, y1, x2, y2, score and class.

    The second tile begins at 60.
    """
    found = iter(tiles)

    def predict(tile: np.ndarray) -> Results:
        return Results(tile, "", {0: "a", 1: "b"}, boxes=torch.tensor(next(found)).reshape(-1, 6))

    result = Slicer(predict, 100, 0.4, agnostic=agnostic, max_det=100_000)(np.zeros((100, 160, 3), np.uint8))
    return [[round(x, 2) for x in row] for row in result.boxes.data.tolist()]


def test_slicer__keeps_the_whole_object_and_not_its_piece():
    whole, piece = [10, 10, 70, 50, 0.8, 0], [70, 10, 100, 50, 0.9, 0]  # the object is from 70 to 130
    assert joined([piece], [whole]) == [[70, 10, 130, 50, 0.8, 0]]
    assert joined([[*piece[:5], 1]], [whole], agnostic=True) == [[70, 10, 130, 50, 0.8, 0]]
    assert len(joined([[*piece[:5], 1]], [whole])) == 2
    nearly_whole = [35, 10, 100, 50, 0.9, 0]  # the object is from 35 to 110, and the second tile sees it from 60 on
    assert joined([nearly_whole], [[0, 10, 50, 50, 0.95, 0]]) == [[35, 10, 100, 50, 0.9, 0]]


def test_slicer__one_of_duplicates_and_both_of_neighbours():
    assert joined([[65, 10, 95, 50, 0.8, 0]], [[6, 11, 36, 51, 0.9, 0]]) == [[66, 11, 96, 51, 0.9, 0]]
    assert len(joined([[65, 10, 85, 50, 0.8, 0]], [[17, 10, 37, 50, 0.9, 0]])) == 2  # 8 of 20 pixels are of both
    small, large = [10, 10, 20, 20, 0.9, 0], [5, 5, 45, 45, 0.3, 0]
    assert len(joined([small, large], [])) == 2  # a faint box around it drops no object


def test_slicer__memory_grows_with_the_number_of_boxes():
    corners = np.stack(np.meshgrid(np.linspace(2, 90, 100), np.linspace(2, 90, 60)), -1).reshape(-1, 2)
    boxes = np.column_stack([corners, corners + 0.5, np.full(6000, 0.5), np.zeros(6000)]).tolist()
    tracemalloc.start()
    assert len(joined(boxes, [])) == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20  # all pairs in float64 are 275 MiB


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
