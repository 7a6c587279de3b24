import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine import outputs
from yolo_mha.engine.video import VideoWriter
from yolo_mha.errors import CheckpointError, ConfigError, DataError, RunError, UnsupportedTaskError


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of three good pictures and a broken one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), draw(1, i)[0])
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def make_video(path: Path, frames: int, fps: float = 10, code: str = "MJPG") -> Path:
    """Write a video of beacons images."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (192, 192))
    for i in range(frames):
        writer.write(draw(1, i)[0])
    writer.release()
    return path


def records(result) -> list[dict]:
    return [json.loads(line) for line in Path(result.predictions).read_text().splitlines()]


def test_predict__works_out_of_the_box_and_is_right():
    result = yolo_mha.predict()
    _, labels = draw(1, 0)
    lines = records(result)
    assert result.images == len(lines) == 1
    found = sorted(d["class"] for d in lines[0]["detections"])
    assert found == sorted(labels[:, 0].astype(int).tolist())
    assert sum(result.found.values()) == len(labels)
    drawn = [p for p in Path(result.save_dir).iterdir() if p.suffix in (".png", ".jpg")]
    assert len(drawn) == 1
    assert Path(result.save_dir).is_relative_to(Path.cwd() / "runs")
    assert result.exit_code == 0


def test_predict__folder_goes_on_past_a_broken_file_and_names_it(pictures):
    result = yolo_mha.predict(source=pictures, save=False)
    assert result.images == 3
    assert result.skipped == [str(pictures / "broken.jpg")]
    assert (result.skipped_count, result.exit_code) == (1, 1)


def test_predict__video_frame_by_frame(tmp_path):
    result = yolo_mha.predict(source=make_video(tmp_path / "v.avi", 7), imgsz=192)
    lines = records(result)
    assert result.images == len(lines) == 7
    assert [line["frame"] for line in lines] == list(range(7))
    video = cv2.VideoCapture(result.outputs["annotated"])
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (7, 10)
    assert any("Audio" in note for note in result.notes)


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("lenient", [False, True])
def test_predict__a_cut_off_picture_is_named(pictures, monkeypatch, share, lenient):
    """Its header is fine, so only decoding shows that it is not, and OpenCV 4 gives gray for what is not there."""
    whole = cv2.imencode(".jpg", draw(1, 0)[0])[1].tobytes()
    (pictures / "cut.jpg").write_bytes(whole[: int(share * len(whole))])
    (pictures / "longer.jpg").write_bytes(whole + b"bytes behind the end")
    if lenient:

        def like_opencv_4(path, flags=cv2.IMREAD_COLOR):
            return np.full((192, 192, 3), 128, np.uint8) if Path(path).name == "cut.jpg" else cv2.imread(path, flags)

        monkeypatch.setattr("yolo_mha.engine.pictures.imread", like_opencv_4)
        with pytest.raises(DataError, match="can be read"):
            yolo_mha.predict(source=pictures / "cut.jpg")
    result = yolo_mha.predict(source=pictures, save=False)
    assert result.skipped == [str(pictures / "broken.jpg"), str(pictures / "cut.jpg")]
    assert (result.images, result.skipped_count, result.exit_code) == (4, 2, 1)


def test_predict__goes_on_past_a_broken_video(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), draw(1, 0)[0])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    result = yolo_mha.predict(source=tmp_path, save=False)
    assert (result.images, result.skipped) == (1, [str(tmp_path / "broken.mp4")])


def test_predict__frames_count_in_each_file(tmp_path):
    for name in ("a", "b"):
        make_video(tmp_path / f"{name}.avi", 2)
    result = yolo_mha.predict(source=tmp_path, imgsz=192, save=False, batch=4)
    assert [(Path(x["source"]).name, x["frame"]) for x in records(result)] == [
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


@pytest.mark.parametrize(
    "settings",
    [
        {"visualize": True},
        {"batch": -1},
        {"batch": 0.5},
        {"classes": [0, 3]},
        {"tracker": "botsort.yaml"},
        {"save_csv": "maybe"},
        {"save_conf": True},
        {"save_conf": True, "save_txt": False},
        {"overlap": 0.2},
        {"slice": 8},
        {"slice": 0},
        {"slice": [96, 96, 96]},
        {"slice": 96, "overlap": 1},
        {"slice": 96, "augment": True},
    ],
)
def test_predict__refuses_settings_that_it_cannot_honour(pictures, settings):
    with pytest.raises(ConfigError):
        yolo_mha.predict(source=pictures, **settings)
    assert not Path("runs").exists()


def test_predict__show_needs_a_screen(pictures, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="screen"):
        yolo_mha.predict(source=pictures, show=True)


def test_predict__real_picture_and_video(test_data):
    for source, images in (("bus.jpg", 1), ("street.mp4", 67)):
        result = yolo_mha.predict("yolov8n-mha-p5.yaml", test_data / "video" / source, imgsz=160, save=False)
        assert result.images == images


# The same numbers as Ultralytics' own prediction ---------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path) -> Path:
    """A folder of five pictures of several sizes and a video of seven frames."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i, (h, w) in enumerate([(192, 192), (150, 192), (192, 130), (192, 192), (150, 192)]):
        cv2.imwrite(str(folder / f"{i}.png"), draw(1, i)[0][:h, :w])
    make_video(folder / "v.avi", 7)
    return folder


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> dict[str, Path]:
    """The demo's model in the formats that run here."""
    folder = tmp_path_factory.mktemp("exports")
    shipped = Path(yolo_mha.__file__).parents[1] / "weights" / "demo-mha.pt"
    (folder / "demo.pt").write_bytes(shipped.read_bytes())
    made = {"pt": folder / "demo.pt"}
    for name, settings in (("onnx", {"simplify": False}), ("torchscript", {}), ("openvino", {})):
        network = yolo_mha.YOLO(made["pt"])
        made[name] = Path(network.export(format=name, dynamic=True, imgsz=192, device="cpu", **settings))
    return made


@pytest.mark.parametrize("settings", [{}, {"batch": 4}, {"batch": 2, "vid_stride": 3, "conf": 0.05, "classes": [1, 2]}])
@pytest.mark.parametrize("kind", ["pt", pytest.param("onnx", marks=pytest.mark.slow)])
def test_predict__numbers_are_those_of_ultralytics(mixed, exports, kind, settings):
    result = yolo_mha.predict(exports[kind], mixed, save=False, **settings)
    theirs = yolo_mha.YOLO(exports[kind]).predict(mixed, stream=True, verbose=False, **settings)
    ours = records(result)
    expected = [(r.path, r.boxes.cls.tolist(), r.boxes.conf.tolist(), r.boxes.xyxy.tolist()) for r in theirs]
    assert len(expected) == 5 + 7 // settings.get("vid_stride", 1)
    columns = ("class", "score", "box")
    assert [(r["source"], *([d[c] for d in r["detections"]] for c in columns)) for r in ours] == expected
    assert sum(len(e[1]) for e in expected) > 20


def test_predict__gray_models_see_gray_pictures(mixed):
    torch.save({"model": DetectionModel("yolov8n.yaml", ch=1, verbose=False)}, "gray.pt")
    settings = {"conf": 1e-9, "max_det": 5, "imgsz": 192}
    result = yolo_mha.predict("gray.pt", mixed, **settings)
    assert cv2.VideoCapture(str(Path(result.save_dir) / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 7
    ours = records(result)
    theirs = yolo_mha.YOLO("gray.pt").predict(mixed, stream=True, verbose=False, **settings)
    assert [[d["box"] for d in r["detections"]] for r in ours] == [r.boxes.xyxy.tolist() for r in theirs]
    assert sum(len(r["detections"]) for r in ours) == 60


def test_predict__reading_ahead_as_on_a_gpu_changes_nothing(mixed, monkeypatch):
    plain = yolo_mha.predict(source=mixed, save=False, batch=2)
    monkeypatch.setattr("ultralytics.nn.autobackend.AutoBackend.prefetch", True, raising=False)
    ahead = yolo_mha.predict(source=mixed, save=False, batch=2)
    assert records(plain) == records(ahead)


def test_predict__formats_agree(exports):
    cv2.imwrite("x.png", draw(1, 0)[0])
    results = {
        kind: records(yolo_mha.predict(model, "x.png", imgsz=192, trust=kind == "torchscript"))[0]
        for kind, model in exports.items()
    }
    expected = results["pt"]["detections"]
    assert len(expected) > 3
    for kind, record in results.items():
        assert [d["class"] for d in record["detections"]] == [d["class"] for d in expected], kind
        for ours, theirs in zip(record["detections"], expected, strict=True):
            assert np.abs(np.subtract(ours["box"], theirs["box"])).max() < 0.5, kind


def test_predict__a_broken_export_is_one_error(tmp_path, pictures):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        yolo_mha.predict(tmp_path / "x.onnx", pictures)
    assert not Path("runs").exists()


def test_predict__says_that_an_export_works_at_its_own_size(exports, pictures):
    Path("static.pt").write_bytes(exports["pt"].read_bytes())
    static = yolo_mha.YOLO("static.pt").export(format="onnx", imgsz=192, device="cpu", simplify=False)
    for model, given, notes in ((static, 320, 1), (static, 192, 0), (exports["onnx"], 320, 0)):
        result = yolo_mha.predict(model, pictures / "0.png", imgsz=given, save=False)
        assert result.notes == ["imgsz=320 was given, and the model works at 192."] * notes


def test_predict__classes_by_name_are_answered_with_their_index(exports, pictures):
    for model in (exports["pt"], exports["onnx"]):
        for given, words in (("night", "classes=1"), ("Beacon,day", "classes=2,0"), ("car", "0 day, 1 night")):
            with pytest.raises(ConfigError, match="by index") as caught:
                yolo_mha.predict(model, pictures, classes=given)
            assert words in str(caught.value)
    assert not Path("runs").exists()


def test_predict__an_export_cannot_augment(exports, pictures):
    with pytest.raises(ConfigError, match="augment"):
        yolo_mha.predict(exports["onnx"], pictures, augment=True)


def test_predict__augment_is_passed_on(pictures):
    plain, augmented = (yolo_mha.predict(source=pictures / "0.png", save=False, augment=a) for a in (False, True))
    assert records(plain)[0]["detections"] != records(augmented)[0]["detections"]


# Interruption --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> Path:
    """A video that takes longer than a few signals."""
    file = tmp_path_factory.mktemp("still") / "long.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 25, (192, 192))
    for i in range(2_000):
        writer.write(np.full((192, 192, 3), i % 200, np.uint8))
    writer.release()
    return file


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_predict__interrupted_leaves_complete_files(still, tmp_path, sent, code):
    command = [
        sys.executable,
        "-m",
        "yolo_mha",
        "predict",
        f"source={still}",
        "save_json=True",
        "save_csv=True",
        "--json",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    folder, deadline = tmp_path / "runs" / "detect" / "predict", time.monotonic() + 60
    while not (folder / "predictions.jsonl").exists() or (folder / "predictions.jsonl").read_text().count("\n") < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(sent)
    out, _ = process.communicate(timeout=30)
    answer = json.loads(out)
    assert (process.returncode, answer["interrupted"], answer["exit_code"]) == (code, True, code)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert 20 <= len(lines) < 2_000
    assert isinstance(json.loads((folder / "predictions.json").read_text()), list)
    video, frames = cv2.VideoCapture(str(folder / "long.mp4")), 0
    while video.read()[0]:
        frames += 1
    assert frames == len(lines) == answer["images"]


def test_predict__a_failure_on_the_way_keeps_what_was_done(tmp_path, monkeypatch):
    """The answer of an interruption comes with the exception, which goes on to the caller."""
    make_video(tmp_path / "v.avi", 5)
    from yolo_mha.engine.outputs import Outputs

    write, written = Outputs.write, []

    def third_fails(self, frame, result):
        written.append(frame.index)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(self, frame, result)

    monkeypatch.setattr(Outputs, "write", third_fails)
    with pytest.raises(KeyboardInterrupt) as stop:
        yolo_mha.predict(source=tmp_path / "v.avi")
    answer = stop.value.result
    assert (answer.images, answer.interrupted, answer.exit_code) == (2, True, 130)
    assert len(records(answer)) == 2


@pytest.mark.parametrize("kind", ["JsonLines", "Drawn"])
def test_predict__a_frame_in_which_it_is_interrupted_is_in_all_files_and_counted(tmp_path, monkeypatch, kind):
    make_video(tmp_path / "v.avi", 5)
    output = getattr(outputs, kind)
    write, before = output.write, signal.getsignal(signal.SIGINT)

    def interrupted(self, item):
        if item.frame.index == 2:
            signal.raise_signal(signal.SIGINT)
        write(self, item)

    monkeypatch.setattr(output, "write", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        yolo_mha.predict(source=tmp_path / "v.avi", imgsz=192, save_txt=True, save_frames=True, save_json=True)
    answer = stop.value.result
    folder = Path(answer.save_dir)
    assert answer.images == len(records(answer)) == len(list((folder / "v_frames").iterdir())) == 3
    assert {c["frame"] for c in json.loads((folder / "predictions.json").read_text())} == {0, 1, 2}
    assert sum(answer.found.values()) == sum(len(r["detections"]) for r in records(answer))
    assert len(list((folder / "labels").iterdir())) == 3
    assert cv2.VideoCapture(str(folder / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_predict__interrupted_while_files_close_they_are_whole(tmp_path, monkeypatch):
    make_video(tmp_path / "v.avi", 3)
    close = VideoWriter.close

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        close(self)

    monkeypatch.setattr(VideoWriter, "close", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        yolo_mha.predict(source=tmp_path / "v.avi", imgsz=192)
    assert cv2.VideoCapture(str(Path(stop.value.result.save_dir) / "v.mp4")).read()[0]


def test_predict__works_in_another_thread(pictures):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(yolo_mha.predict, source=pictures / "0.png").result().images == 1


# Disks that are full -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"save": False}, {"save": False, "save_frames": True}])
def test_predict__a_full_disk_is_one_error_and_leaves_whole_files(small_disk_video, small_disk, settings):
    with pytest.raises(RunError, match="cannot be written"):
        yolo_mha.predict(source=small_disk_video, imgsz=64, conf=1e-5, save_json=True, save_csv=True, **settings)
    folder = Path("runs/detect/predict")
    text = (folder / "predictions.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    assert all(json.loads(line) for line in text.splitlines())
    assert isinstance(json.loads((folder / "predictions.json").read_text()), list)
    assert {len(row) for row in csv.reader((folder / "predictions.csv").open(newline=""))} == {10}
    assert not list(folder.glob("*.mp4"))


class Text(outputs.Growing):
    def write(self, item):
        self.add(str(item))


def test_growing__is_whole_at_any_moment(small_disk):
    file = Text(Path("x.json"), end="]")
    file.add("[1")
    assert Path("x.json").read_text() == "[1]"
    file.add(",1" * 8_000)
    with pytest.raises(OSError, match="large"):
        file.add(",3" * 8_000)
    assert Path("x.json").read_text() == "[1" + ",1" * 8_000 + "]"
    file.add(",4")
    file.close()
    assert json.loads(Path("x.json").read_text())[-1] == 4


@pytest.fixture
def small_disk_video(tmp_path) -> Path:
    """A video whose annotated frames and predictions are larger than that."""
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 640))
    noise = np.random.default_rng(0)
    for _ in range(4):
        writer.write(noise.integers(0, 256, (640, 640, 3), np.uint8))
    writer.release()
    return tmp_path / "v.mp4"


# Memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_predict__memory_stays_flat_over_a_long_video(tmp_path):
    frames = 5_000
    video = tmp_path / "long.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (192, 192))
    images = [draw(1, i)[0] for i in range(250)]
    for i in range(frames):
        writer.write(images[i % len(images)])
    writer.release()
    weights = Path(yolo_mha.__file__).parents[1] / "weights" / "demo-mha.pt"
    settings = [f"model={weights}", f"source={video}", "imgsz=64", "save_csv=True", "save_json=True"]
    process = subprocess.Popen(
        [sys.executable, "-m", "yolo_mha", "predict", *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    written = tmp_path / "runs" / "detect" / "predict" / "predictions.jsonl"
    samples: list[tuple[int, float]] = []  # frames done, MiB
    measured, size, done = psutil.Process(process.pid), 0, 0
    while process.poll() is None:
        time.sleep(0.2)
        if written.exists():
            with written.open("rb") as file:
                file.seek(size)
                new = file.read()
            size, done = size + len(new), done + new.count(b"\n")
            if 0 < done < frames:
                samples.append((done, measured.memory_info().rss / 2**20))
    assert process.returncode == 0
    assert written.read_bytes().count(b"\n") == frames
    second_half = [mib for count, mib in samples if count >= frames / 2]
    print("frames and MiB:", samples[:: max(1, len(samples) // 10)], samples[-1])
    assert len(second_half) > 10
    assert max(second_half) - second_half[0] < 30
