import json
from pathlib import Path

import cv2
import pytest

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.errors import DataError, UnsupportedTaskError


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of three good pictures and a broken one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), draw(1, i)[0])
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_predict__works_out_of_the_box_and_is_right():
    result = yolo_mha.predict()
    _, labels = draw(1, 0)
    lines = [json.loads(line) for line in Path(result.predictions).read_text().splitlines()]
    assert result.images == len(lines) == 1
    found = sorted(d["class"] for d in lines[0]["detections"])
    assert found == sorted(labels[:, 0].astype(int).tolist())
    assert sum(result.found.values()) == len(labels)
    drawn = [p for p in Path(result.save_dir).iterdir() if p.suffix in (".png", ".jpg")]
    assert len(drawn) == 1
    assert Path(result.save_dir).is_relative_to(Path.cwd() / "runs")


def test_predict__folder_goes_on_past_a_broken_file_and_names_it(pictures):
    result = yolo_mha.predict(source=pictures, save=False)
    assert result.images == 3
    assert result.skipped == [str(pictures / "broken.jpg")]


def test_predict__video_frame_by_frame(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (192, 192))
    for i in range(7):
        writer.write(draw(1, i)[0])
    writer.release()
    result = yolo_mha.predict(source=tmp_path / "v.avi", imgsz=192)
    lines = [json.loads(line) for line in Path(result.predictions).read_text().splitlines()]
    assert result.images == len(lines) == 7
    assert [line["frame"] for line in lines] == list(range(7))
    written = next(p for p in Path(result.save_dir).iterdir() if p.suffix in (".avi", ".mp4"))
    video = cv2.VideoCapture(str(written))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (7, 10)


@pytest.mark.parametrize("source", ["nowhere.png", "", "empty", "*.png"])
def test_predict__refuses_a_source_without_pictures(tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        yolo_mha.predict(source=source)
    assert not Path("runs").exists()


def test_predict__refuses_a_corrupt_picture(pictures):
    with pytest.raises(DataError, match="can be read"):
        yolo_mha.predict(source=pictures / "broken.jpg")


def test_predict__refuses_other_tasks(pictures):
    with pytest.raises(UnsupportedTaskError):
        yolo_mha.predict("yolov8n-seg.yaml", pictures)


def test_predict__real_picture_and_video(test_data):
    for source, images in (("bus.jpg", 1), ("street.mp4", 67)):
        result = yolo_mha.predict("yolov8n-mha-p5.yaml", test_data / "video" / source, imgsz=160, save=False)
        assert result.images == images
