import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_predict import make_video, records
from ultralytics.utils import ROOT

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.errors import ConfigError, DataError, DependencyError, YoloMHAError


@pytest.fixture
def moving(tmp_path) -> Path:
    """A video in which a beacons image moves slowly."""
    writer = cv2.VideoWriter(str(tmp_path / "m.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (192, 192))
    for i in range(8):
        writer.write(np.roll(draw(1, 0)[0], i, axis=1))
    writer.release()
    return tmp_path / "m.mp4"


@pytest.mark.parametrize("tracker", ["botsort.yaml", "bytetrack"])
def test_track__ids_are_those_of_ultralytics(moving, tracker):
    result = yolo_mha.track(source=moving, tracker=tracker, imgsz=192, save_csv=True, save_json=True, save_txt=True)
    yaml = tracker if tracker.endswith(".yaml") else f"{tracker}.yaml"
    theirs = yolo_mha.YOLO("demo-mha.pt").track(moving, tracker=yaml, imgsz=192, stream=True, verbose=False)
    expected = [r.boxes.id.int().tolist() if r.boxes.is_track else [] for r in theirs]
    lines = records(result)
    assert [[d["id"] for d in line["detections"]] for line in lines] == expected
    assert sum(map(len, expected)) > 10
    assert result.tracks == len({i for ids in expected for i in ids})
    with Path(result.outputs["csv"]).open(newline="") as file:
        assert [int(row["id"]) for row in csv.DictReader(file)] == [i for ids in expected for i in ids]
    assert [c["track_id"] for c in json.loads(Path(result.outputs["json"]).read_text())] == [
        i for ids in expected for i in ids
    ]
    last = (Path(result.outputs["labels"]) / "m_7.txt").read_text().splitlines()
    assert [int(row.split()[-1]) for row in last] == expected[-1]


def test_track__an_object_keeps_its_id_and_each_video_starts_anew(moving, tmp_path):
    (tmp_path / "other").mkdir()
    other = make_video(tmp_path / "other" / "m.mp4", 3, code="mp4v")  # of the same name
    settings = {"imgsz": 192, "batch": 3, "conf": 0.5, "save": False}
    both, alone = (records(yolo_mha.track(source=s, **settings)) for s in ([moving, other], other))
    seen = [{d["id"] for d in line["detections"]} for line in both[:8]]
    assert 1 in seen[0]
    assert len(seen[0] & seen[7]) >= 3
    assert [line["detections"] for line in both[8:]] == [line["detections"] for line in alone]


def test_track__pictures_of_a_folder_are_one_video(tmp_path):
    (tmp_path / "frames").mkdir()
    for i in range(5):
        cv2.imwrite(f"frames/{i:03}.png", np.roll(draw(1, 0)[0], i, axis=1))
    lines = records(yolo_mha.track(source="frames", imgsz=192, save=False))
    assert len({d["id"] for d in lines[0]["detections"]} & {d["id"] for d in lines[4]["detections"]}) >= 3


def test_track__picture_shows_ids(moving):
    boxes, ids = (
        cv2.VideoCapture(run(source=moving, imgsz=192, conf=0.3).outputs["annotated"]).read()[1]
        for run in (yolo_mha.predict, yolo_mha.track)
    )
    assert (boxes != ids).any()


def test_track__refuses(moving, tmp_path):
    (tmp_path / "odd.yaml").write_text("tracker_type: psychic\n")
    (tmp_path / "list.yaml").write_text("tracker_type: [bytetrack]\n")
    stock = (ROOT / "cfg" / "trackers" / "botsort.yaml").read_text()
    (tmp_path / "word.yaml").write_text(stock.replace("match_thresh: 0.8", "match_thresh: high"))
    (tmp_path / "short.yaml").write_text(stock.replace("track_buffer: 30", ""))
    for settings, error, word in (
        ({"tracker": "bytetrak"}, ConfigError, "bytetrack"),
        ({"tracker": "odd.yaml"}, ConfigError, "psychic"),
        ({"tracker": "list.yaml"}, ConfigError, "unknown tracker"),
        ({"tracker": "word.yaml"}, ConfigError, "match_thresh"),
        ({"tracker": "short.yaml"}, ConfigError, "track_buffer"),
        ({"slice": 96}, ConfigError, "slice"),
        ({"source": None}, DataError, "missing"),
    ):
        with pytest.raises(error, match=word):
            yolo_mha.track(**{"source": moving, **settings})
    assert not Path("runs").exists()


@pytest.mark.parametrize("model", ["auto", "gone.pt"])
def test_track__reid_weights_that_are_not_there_are_one_error(moving, tmp_path, model):

    text = (ROOT / "cfg" / "trackers" / "botsort.yaml").read_text()
    text = text.replace("with_reid: False", "with_reid: True").replace("model: auto", f"model: {model}")
    (tmp_path / "reid.yaml").write_text(text)
    if model == "auto":  # the features of the detector itself
        assert yolo_mha.track(source=moving, tracker="reid.yaml", imgsz=192, save=False).tracks
        return
    with pytest.raises(YoloMHAError, match=r"gone\.pt"):
        yolo_mha.track(source=moving, tracker="reid.yaml", imgsz=192)
    assert not Path("runs").exists()


def test_track__names_the_package_that_is_missing(moving, monkeypatch):
    monkeypatch.setitem(sys.modules, "lap", None)
    monkeypatch.setattr("yolo_mha.engine.tracking.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"yolo-mha\[track\]"):
        yolo_mha.track(source=moving)


def test_track__exported_model(moving, tmp_path):
    (tmp_path / "d.pt").write_bytes((Path(yolo_mha.__file__).parents[1] / "weights" / "demo-mha.pt").read_bytes())
    onnx = yolo_mha.YOLO("d.pt").export(format="onnx", imgsz=192, device="cpu", simplify=False)
    ours, theirs = (records(yolo_mha.track(m, moving, imgsz=192, save=False)) for m in (onnx, "d.pt"))
    assert [[d["id"] for d in line["detections"]] for line in ours] == [
        [d["id"] for d in line["detections"]] for line in theirs
    ]


def test_track__makes_a_video_of_a_damaged_one(tmp_path):
    video = make_video(tmp_path / "v.avi", 20)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    result = yolo_mha.track(source=video, imgsz=192)
    assert result.exit_code == 1
    assert 5 < result.images < 15
