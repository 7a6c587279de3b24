import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_predict import make_video, records

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine.outputs import Drawn, JsonLines, Names, Outputs, _folder_name
from yolo_mha.engine.sources import Frame
from yolo_mha.engine.video import VideoWriter
from yolo_mha.errors import ConfigError, RunError

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
    assert result.outputs["frames"] == str(folder / "v_frames")


def test_outputs__frames_of_several_videos_are_below_the_folder_that_is_named(tmp_path):
    for name in ("a", "b"):
        make_video(tmp_path / f"{name}.avi", 2)
    result = yolo_mha.predict(source="*.avi", imgsz=64, save=False, save_frames=True)
    assert result.outputs["frames"] == result.save_dir
    assert {p.name for p in Path(result.outputs["frames"]).glob("*_frames")} == {"a_frames", "b_frames"}


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


def test_outputs__no_picture_goes_by_the_name_of_a_frame(tmp_path):
    cv2.imwrite("v_0.png", draw(1, 5)[0])
    make_video(tmp_path / "v.avi", 2)
    make_video(tmp_path / "v_0.avi", 2)
    result = yolo_mha.predict(source="v*", imgsz=192, **ALL)
    lines, folder = records(result), Path(result.save_dir)
    expected = ["v_0", "v-2_0", "v-2_1", "v_0-2_0", "v_0-2_1"]
    assert [line["name"] for line in lines] == expected
    assert {p.stem for p in (folder / "labels").iterdir()} == set(expected)
    coco = json.loads((folder / "predictions.json").read_text())
    for line in lines:
        found = len(line["detections"])
        assert found > 0
        assert len((folder / "labels" / f"{line['name']}.txt").read_text().splitlines()) == found
        assert {c["file_name"] for c in coco if c["image_id"] == line["name"]} == {Path(line["source"]).name}
        assert sum(c["image_id"] == line["name"] for c in coco) == found
        for i, d in enumerate(line["detections"]):
            assert (folder / "crops" / d["name"] / f"{line['name']}_{i}.jpg").is_file()
    assert len(list((folder / "crops").rglob("*.jpg"))) == len(coco)


def test_outputs__numbers_that_are_equal_stay_apart():
    for i, name in enumerate(("007", "07", "7")):
        cv2.imwrite(f"{name}.png", draw(1, i)[0])
    result = yolo_mha.predict(source="*.png", save=False, save_json=True)
    assert [line["name"] for line in records(result)] == ["007", "07-2", "7-2"]
    ids = {c["file_name"]: c["image_id"] for c in json.loads(Path(result.outputs["json"]).read_text())}
    assert ids["007.png"] == 7
    assert len(set(ids.values())) == 3


def test_names__leave_room_for_what_is_added():
    picture, names = np.zeros((8, 8, 3), np.uint8), Names()
    bases = [names.base(Frame(f"/x/{'像' * 80}{i}.png", picture)) for i in range(2)]
    assert bases == ["像" * 50, f"{'像' * 50}-2"]


@pytest.mark.parametrize("first", [0, 1])
def test_names__do_not_depend_on_the_order(first):
    """Pictures come before videos today; names are right in any order."""
    picture = Frame("a/v_1.png", np.zeros((8, 8, 3), np.uint8))
    video = Frame("v.avi", picture.image, index=1, fps=30)
    frames, names = [picture, video], Names()
    if first:
        frames.reverse()
    assert [names.base(f) for f in frames] == [["v_1", "v-2"], ["v", "v_1-2"]][first]
    assert names.base(video) == ["v-2", "v"][first]


def test_names__a_picture_with_another_number_than_frames_have_disturbs_no_video():
    picture = Frame("v_001.png", np.zeros((8, 8, 3), np.uint8))
    names = Names()
    assert names.base(picture) == "v_001"
    assert names.base(Frame("v.avi", picture.image, fps=30)) == "v"


def test_outputs__names_only_what_there_is():
    cv2.imwrite("x.png", draw(1, 0)[0])
    result = yolo_mha.predict(source="x.png", save_frames=True)  # of a picture there are no frames
    assert set(result.outputs) == {"jsonl", "annotated"}
    assert all(Path(path).exists() for path in result.outputs.values())
    assert Drawn(Path(result.save_dir), 1).path is None


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
    crops = Path(second.save_dir) / "crops"
    assert len(list(crops.rglob("*.jpg"))) == found
    (crops / "red").mkdir(exist_ok=True)
    (crops / "red" / "other_0.jpg").write_bytes(b"of another picture")
    fewer = yolo_mha.predict(source="x.png", name="same", exist_ok=True, max_det=1, **ALL)
    assert sum(fewer.found.values()) == 1 < found
    assert len(list(crops.rglob("x_*.jpg"))) == 1
    assert len(list(crops.rglob("*.jpg"))) == 2


@pytest.mark.parametrize("source", ["mine/x.png", "x.png"])
def test_outputs__replace_no_files_of_the_user(source):
    """Pictures and labels in the folder that ``exist_ok`` names: as the source, and of something else."""
    for file in (Path("mine/x.png"), Path("x.png"), Path("mine/labels/x.txt")):
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file.with_suffix(".png")), draw(1, 0)[0])
    Path("mine/labels/x.txt").write_text("0 .5 .5 .1 .1\n")
    before = {file: file.read_bytes() for file in Path("mine").rglob("*") if file.is_file()}
    words = (
        "source is in the folder that the results go to" if source.startswith("mine") else "files that are not of an"
    )
    with pytest.raises(ConfigError, match=words):
        yolo_mha.predict(source=source, project=".", name="mine", exist_ok=True, **ALL)
    assert {file: file.read_bytes() for file in Path("mine").rglob("*") if file.is_file()} == before


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


def test_video_writer__takes_the_nearest_rate_that_mpeg4_can_hold(tmp_path):
    """As the average of a slow-motion clip; of 119.617 frames per second MPEG-4 cannot say the thousandths."""
    writer = VideoWriter(tmp_path / "v", 119.617, 64, 48)
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    assert cv2.VideoCapture(str(writer.path)).get(cv2.CAP_PROP_FPS) == pytest.approx(119.62, abs=1e-3)


def test_video_writer__a_file_that_lacks_frames_is_an_error(tmp_path):
    writer = VideoWriter(tmp_path / "v", 10, 64, 48)
    for i in range(3):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    assert not writer.path.exists()
    next(tmp_path.glob(".unfinished-*")).write_bytes(b"")  # as on a full disk, of which the encoder says nothing
    with pytest.raises(RunError, match="video cannot be written"):
        writer.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunError, match="video cannot be written"):
        VideoWriter(tmp_path / "gone" / "v", 10, 64, 48)


def test_outputs__stride_keeps_the_length_of_a_video(tmp_path):
    result = yolo_mha.predict(source=make_video(tmp_path / "v.avi", 8, fps=12), vid_stride=2, imgsz=192)
    video = cv2.VideoCapture(result.outputs["annotated"])
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (4, 6)
    assert [line["frame"] for line in records(result)] == [1, 3, 5, 7]


@pytest.mark.parametrize(("name", "folder"), [("a/b", "a_b"), ("../../x", "__.._x"), ("", "_"), ("red car", "red car")])
def test_crops__a_class_name_leads_to_no_other_folder(name, folder):
    assert _folder_name(name) == folder


def test_outputs__the_first_error_is_the_one_that_is_told(tmp_path, monkeypatch):
    def fail(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JsonLines, "close", fail)
    with pytest.raises(RunError, match="of a picture"), Outputs(tmp_path, {}):
        raise RunError("of a picture")
    with pytest.raises(RunError, match="cannot be written"), Outputs(tmp_path, {}):
        pass


def test_csv__a_spreadsheet_computes_no_name(tmp_path):
    network = yolo_mha.YOLO("demo-mha.pt")
    network.model.names = {i: f"=cmd|{i}" for i in network.names}
    network.save("named.pt")
    cv2.imwrite("@x.png", draw(1, 0)[0])
    result = yolo_mha.predict("named.pt", source="@x.png", imgsz=192, save=False, save_csv=True)
    with Path(result.outputs["csv"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"][:5] for row in rows} == {"'=cmd"}
    assert all(not row["source"].startswith(("=", "+", "-", "@")) for row in rows)
