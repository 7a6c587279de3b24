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


def test_predict__a_cut_off_picture_is_named(pictures):
    """Its header is fine, so only decoding shows that it is not."""
    whole = cv2.imencode(".jpg", draw(1, 0)[0])[1].tobytes()
    (pictures / "cut.jpg").write_bytes(whole[:300])
    result = yolo_mha.predict(source=pictures, save=False)
    assert result.images + len(result.skipped) == 5
    assert str(pictures / "broken.jpg") in result.skipped


def test_predict__goes_on_past_a_broken_video(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), draw(1, 0)[0])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    result = yolo_mha.predict(source=tmp_path, save=False)
    assert (result.images, result.skipped) == (1, [str(tmp_path / "broken.mp4")])


def test_predict__frames_count_in_each_file(tmp_path):
    for name in ("a", "b"):
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (192, 192))
        for i in range(2):
            writer.write(draw(1, i)[0])
        writer.release()
    result = yolo_mha.predict(source=tmp_path, imgsz=192, save=False)
    lines = [json.loads(line) for line in Path(result.predictions).read_text().splitlines()]
    assert [(Path(x["source"]).name, x["frame"]) for x in lines] == [
        ("a.avi", 0),
        ("a.avi", 1),
        ("b.avi", 0),
        ("b.avi", 1),
    ]


def test_predict__odd_names_and_globs(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/photo[1].png", "in/deep/x.png"):
        cv2.imwrite(str(tmp_path / name), draw(1, 0)[0])
    assert yolo_mha.predict(source="in/photo[1].png", save=False).images == 1
    assert yolo_mha.predict(source="in/**/x.png", save=False).images == 1
    assert yolo_mha.predict(source="in", save=False).images == 1  # a folder is not searched deeper, as in Ultralytics


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
