import http.server
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from test_predict import make_video, records

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.data.pictures import is_cut_off, unusual_samples
from yolo_mha.engine.edit_list import played_share
from yolo_mha.engine.pictures import read_picture
from yolo_mha.engine.sources import Skipped, find, read
from yolo_mha.engine.video import count_frames
from yolo_mha.errors import DataError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures in two folders, and a video."""
    for name in ("a/x.png", "a/y.png", "b/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((32, 32, 3), np.uint8))
    make_video(tmp_path / "v.avi", 3)
    return tmp_path


def names(source) -> list[str]:
    return [str(Path(f).relative_to(Path.cwd())) for f in (*source.pictures, *source.videos)]


def test_find__lists(folder, tmp_path):
    (tmp_path / "list.txt").write_text("v.avi\nb/x.png\na/*.png\n\n")
    (tmp_path / "list.csv").write_text("source\nb\n" + str(tmp_path / "v.avi") + "\n")
    (tmp_path / "lists").mkdir()
    (tmp_path / "a" / "own.txt").write_text("y.png\ngone.png\n")
    assert names(find("list.txt")) == ["a/x.png", "a/y.png", "b/x.png", "v.avi"]
    assert names(find(Path("list.csv"))) == ["b/x.png", "v.avi"]
    assert names(find(["b", Path("a/x.png")])) == ["a/x.png", "b/x.png"]
    assert names(find("a/own.txt")) == ["a/y.png"]  # from the folder of the list
    assert find("a/own.txt").missing == ["gone.png"]


def test_find__names_what_a_list_lacks(folder):
    result = yolo_mha.predict(source=["a/x.png", "gone.png"], save=False)
    assert (result.images, result.skipped, result.exit_code) == (1, ["gone.png"], 1)


@pytest.mark.parametrize(
    "source", [None, 1.5, np.zeros((8, 8, 3)), [], ["gone.png"], "empty.txt", "binary.txt", "http://x.invalid/a.jpg"]
)
def test_find__refuses(tmp_path, source):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError):
        find(source)


def test_find__takes_what_no_file_could_be_called_for_missing(folder):
    Path("list.txt").write_text("a/x.png\n" + "y" * 300 + "\na\0b\n")
    found = find("list.txt")
    assert (names(found), len(found.missing)) == (["a/x.png"], 2)
    for source in ("y" * 300, "a\0b", "a\0b.txt"):
        with pytest.raises(DataError, match="source is not a valid path"):
            find(source)


def test_find__names_what_is_listed_and_no_media(folder):
    Path("n.pdf").write_bytes(b"%PDF")
    Path("c").mkdir()
    Path("c/readme.txt").write_text("no picture")
    Path("list.txt").write_text("a/x.png\nn.pdf\nc\na\n")
    for source in ("list.txt", ["n.pdf", "a/x.png", "c", "a", "n.pdf"]):
        assert find(source).missing == ["c", "n.pdf"]
    result = yolo_mha.predict(source="list.txt", save=False)
    assert (result.images, result.skipped, result.exit_code) == (2, ["c", "n.pdf"], 1)


def test_find__odd_lists_and_numbers_are_one_error(folder):
    (folder / "open.csv").write_text(f'a/x.png\n"{"b" * 140_000}\n')
    for source, words in (
        ("open.csv", "list cannot be read"),
        ("²", "Source not found"),
        ("9" * 19, "camera cannot be opened"),
        ("9" * 5000, "not a valid path"),
    ):
        with pytest.raises(DataError, match=words):
            find(source)


def test_find__a_folder_named_by_a_number_is_no_camera(folder):
    (folder / "a").rename(folder / "007")
    assert len(find("007").pictures) == 2


def test_find__a_file_address_is_its_path(folder):
    (folder / "a").rename(folder / "ä 1")
    cv2.imwrite(str(folder / "100%.png"), np.zeros((32, 32, 3), np.uint8))
    for path in (folder / "v.avi", folder / "ä 1", folder / "100%.png"):
        assert find(path.as_uri()) == find(str(path))


def test_find__takes_each_file_once(folder):
    assert names(find(["v.avi", "a", ".", "a/x.png", str(Path("v.avi").absolute()), "./v.avi"])) == [
        "a/x.png",
        "a/y.png",
        "v.avi",
    ]
    result = yolo_mha.predict(source=["v.avi", "*.avi"], imgsz=64)
    assert result.images == 3
    assert cv2.VideoCapture(result.outputs["annotated"]).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize("name", ["pipe.png", "pipe.mp4", "itself.png"])
def test_find__what_is_no_file_is_named_and_not_waited_for(folder, name):
    path = folder / "a" / name
    path.symlink_to(name) if name == "itself.png" else os.mkfifo(path)
    source = find(folder / "a")
    assert (names(source), source.missing) == (["a/x.png", "a/y.png"], [str(path)])
    with pytest.raises(DataError, match=name):
        find(path)


def test_find__comments_and_headings_of_lists_are_no_files(folder):
    cv2.imwrite("#1.png", np.zeros((32, 32, 3), np.uint8))
    Path("image").mkdir()
    cv2.imwrite("image/z.png", np.zeros((32, 32, 3), np.uint8))
    lists = {
        "comments.txt": ("# pictures of today\na/x.png\n  #b/x.png\n#1.png\n", ["#1.png", "a/x.png"], []),
        "comments.csv": ("# made by hand\nsource\na/x.png\n", ["a/x.png"], []),
        "path.csv": ("path\na/x.png\n", ["a/x.png"], []),
        "any.csv": ("what we saw\na/x.png\n", ["a/x.png"], []),
        "columns.csv": ("label,Image,width\ncat,a/x.png,32\ndog,b/x.png,32\nant\n", ["a/x.png", "b/x.png"], []),
        "file_name.csv": ("id,file_name\n1,a/x.png\n2,gone.png\n", ["a/x.png"], ["gone.png"]),
        "semicolons.csv": ("id;file\n1;a/x.png\n", ["a/x.png"], []),
        "tabs.csv": ("path\twidth\na/x.png\t5\n", ["a/x.png"], []),
        "far.csv": ("/no/such\na/x.png\n", ["a/x.png"], ["/no/such"]),
        "quoted.csv": ('path,of\na/x.png,"one\n# two"\na/y.png,ok\n', ["a/x.png", "a/y.png"], []),
        "blank.csv": ("\n\npath\na/x.png\n", ["a/x.png"], []),
        "second.csv": ("image,path\n1,a/x.png\n2,gone.png\n", ["a/x.png"], ["gone.png"]),
        "headless.csv": ("gone.png\na/x.png\n", ["a/x.png"], ["gone.png"]),
        "folders.csv": ("a\nb/x.png\n", ["a/x.png", "a/y.png", "b/x.png"], []),
    }
    for name, (text, files, missing) in lists.items():
        Path(name).write_text(text)
        found = find(name)
        assert (names(found), found.missing) == (files, missing), name
    assert find(["#gone.png", "a/x.png"]).missing == ["#gone.png"]


def test_find__names_what_is_nearly_so_called(folder):
    Path("images").mkdir()
    for source, words in (
        ("imgaes/", "did you mean images?"),
        ("images/../imgaes", "did you mean images? (in images/..)"),
        ("a/xx.png", "did you mean x.png"),
        ("nothing-like-it", "an image, a video, a folder of them, or a glob"),
        ("deep/er/x.png", "there is no folder deep/er"),
        (str(Path("unlike").absolute()), "an image, a video, a folder of them, or a glob"),
    ):
        with pytest.raises(DataError) as caught:
            find(source)
        assert words in caught.value.expected


def test_total__is_known_for_files(folder):
    assert find("*").total(1) == 3
    assert find("**/*").total(1) == 6
    assert find("**/*").total(2) == 4
    Path("v.avi").write_bytes(b"no video")
    assert find("**/*").total(1) == 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("float32", "32-bit float"),
        ("float64", "64-bit float"),
        ("int16", "16-bit signed"),
        ("int32", "32-bit signed"),
        ("uint32", "32-bit unsigned"),
        ("uint16", ""),
        ("uint8", ""),
    ],
)
@pytest.mark.parametrize("gray", [False, True])
def test_predict__pictures_whose_values_have_no_known_range_are_named(kind, words, gray):
    """OpenCV and Ultralytics give black, or floats, for these."""
    picture = draw(1, 0)[0][..., :1] if gray else draw(1, 0)[0]
    scale = {"uint16": 257, "float32": 1 / 255, "float64": 1 / 255}.get(kind, 1)
    Path("in").mkdir()
    cv2.imwrite("in/x.tif", (picture.astype(float) * scale).astype(kind))
    cv2.imwrite("in/y.png", picture)
    result = yolo_mha.predict(source="in", imgsz=192, save=False)
    assert result.images == (1 if words else 2)
    assert result.exit_code == (1 if words else 0)
    if words:
        assert [name.split(": ")[1].split(" values")[0] for name in result.skipped] == [words]
        with pytest.raises(DataError, match=words):
            find("in/x.tif")
    else:
        x, y = (sorted(d["class"] for d in record["detections"]) for record in records(result))
        assert x == y
        assert gray or x


def test_read_picture__of_a_header_alone():
    Path("x.jpg").write_bytes(b"\xff\xd8\xff no picture")
    assert is_cut_off("x.jpg")
    assert read_picture("x.jpg") is None


def test_read_picture__tells_by_the_content(monkeypatch):
    cv2.imwrite("x.tif", draw(1, 0)[0].astype(np.int16))
    Path("x.dng").write_bytes(Path("x.tif").read_bytes())
    assert read_picture("x.dng") is None
    assert unusual_samples("x.dng").startswith("16-bit signed")
    monkeypatch.setattr("yolo_mha.engine.pictures.unusual_samples", lambda path: "")  # a header that is not understood
    assert read_picture("x.tif") is None
    cv2.imwrite("x.tif", draw(1, 0)[0])
    assert read_picture("x.tif").shape == (192, 192, 3)


def test_predict__sixteen_bits_are_seen_as_eight():
    image = draw(1, 0)[0]
    Path("in").mkdir()
    for suffix in ("png", "tif"):
        cv2.imwrite(f"in/16.{suffix}", image.astype(np.uint16) * 257)
        cv2.imwrite(f"in/8.{suffix}", image)
    found = [record["detections"] for record in records(yolo_mha.predict(source="in", imgsz=192, save=False))]
    assert len(found) == 4
    assert all(one == found[0] for one in found)
    assert len(found[0]) > 3


# Damaged videos ------------------------------------------------------------------------------------------------------


def test_read__damaged_frames_are_named_and_the_others_keep_their_number(tmp_path):
    """In Motion JPEG each frame stands alone, so those behind the damage tell whether the numbers are right."""
    video = make_video(tmp_path / "v.avi", 40)
    whole = {f.index: f.image for (f,) in read(find(video), Skipped())}
    content = bytearray(video.read_bytes())
    chunks = [m.start() for m in re.finditer(rb"00dc....\xff\xd8", content, re.DOTALL)]
    for i in (18, 19, 25):
        content[chunks[i] + 8 : chunks[i] + 400] = bytes(392)
    video.write_bytes(content)
    skipped = Skipped()
    frames = {f.index: f.image for (f,) in read(find(video), skipped)}
    assert set(frames) == set(range(40)) - {18, 19, 25}
    assert all(np.array_equal(image, whole[i]) for i, image in frames.items())
    assert (skipped.names, skipped.count) == ([f"{video}: frames 18-19, 25 (3 of 40)"], 3)


def test_read__goes_on_past_damage_of_mpeg4(tmp_path):
    video = make_video(tmp_path / "v.mp4", 40, code="mp4v")
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    video.write_bytes(content)
    skipped = Skipped()
    frames = [f.index for (f,) in read(find(video), skipped)]
    assert frames[-1] == 39
    assert 0 < skipped.count == 40 - len(frames) < 10
    assert str(min(set(range(40)) - set(frames))) in skipped.names[0]


def test_read__an_end_that_is_cut_off_is_named(tmp_path):
    video = make_video(tmp_path / "v.avi", 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    skipped = Skipped()
    frames = [f.index for (f,) in read(find(video), skipped)]
    assert frames == list(range(len(frames)))
    assert 10 < len(frames) < 30
    assert skipped.names == [f"{video}: frames {len(frames)}-39 ({40 - len(frames)} of 40)"]


def test_read__real_damage(test_data, tmp_path):
    content = bytearray((test_data / "video" / "street.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = np.random.default_rng(0).bytes(20_000)
    (tmp_path / "street.mp4").write_bytes(content)
    skipped = Skipped()
    frames = [f.index for (f,) in read(find(tmp_path / "street.mp4"), skipped)]
    assert frames[-1] == 66
    assert 0 < skipped.count == 67 - len(frames) < 20
    assert "of 67" in skipped.names[0]


def test_read__frames_that_an_edit_list_hides_are_not_lost(test_data, tmp_path):
    """As ``ffmpeg -ss 1.5 -i street.mp4 -c copy`` writes it: all frames are there, and the first 45 are not shown."""
    content = bytearray((test_data / "video" / "street.mp4").read_bytes())
    at = content.find(b"elst") + 12
    assert struct.unpack_from(">Ii", content, at) == (2234, 1024)  # ms that are shown, and from where (1/15360 s)
    struct.pack_into(">Ii", content, at, 734, 1024 + 45 * 512)
    video = tmp_path / "cut.mp4"
    video.write_bytes(content)
    assert count_frames(str(video)) == 22
    skipped = Skipped()
    assert [f.index for (f,) in read(find(video), skipped)] == list(range(22))
    assert not skipped.names
    struct.pack_into(">I", content, at - 16, 4)  # a box that ends within its header
    video.write_bytes(content)
    assert count_frames(str(video)) == 67


@pytest.mark.parametrize(
    "movie",
    [
        b"\0\0\0\x10moov\0\0\0\x08mvhd",
        b"\0\0\0\x01moov\x7f" + bytes(7),
        b"\0\0\0\x01moov\xff" + bytes(7),
        b"\0\0\0\x09moov\0",
        b"\0\0\0\x24moov\0\0\0\x1cmvhd" + bytes(20),
        b"",
    ],
)
def test_played_share__of_a_damaged_header_is_all(tmp_path, movie):
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\2\0" + movie)
    assert played_share(str(tmp_path / "v.mp4")) == 1


def test_read__stride_takes_the_frames_of_ultralytics(tmp_path):
    make_video(tmp_path / "v.avi", 8)
    assert [f.index for (f,) in read(find("v.avi"), Skipped(), stride=3)] == [2, 5]
    with pytest.raises(DataError, match="Nothing"):
        yolo_mha.predict(source="v.avi", vid_stride=9)
    assert not Path("runs").exists()


def test_read__intact_videos_in_containers_that_do_not_count_frames(tmp_path):
    for name, code in (("v.mkv", "MJPG"), ("v.mpg", "mpg1"), ("v.ts", "mp4v"), ("v.mov", "mp4v")):
        skipped = Skipped()
        frames = list(read(find(make_video(tmp_path / name, 30, 25, code)), skipped))
        assert (len(frames), skipped.names) == (30, []), name


# Cameras and streams -------------------------------------------------------------------------------------------------


class Camera(http.server.BaseHTTPRequestHandler):
    """Sends twelve pictures as Motion JPEG, as network cameras do, to the first two connections of an address.

    The first connection looks whether there is a stream. The third picture is black; at an address with ``dark``, all
    are.
    """

    seen: ClassVar[Counter] = Counter()

    def do_GET(self):
        self.seen[self.path] += 1
        if self.seen[self.path] > 2:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        try:
            for i in range(12):
                image = draw(1, i)[0] if i != 2 and "dark" not in self.path else np.zeros((192, 192, 3), np.uint8)
                picture = cv2.imencode(".jpg", image)[1].tobytes()
                self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
                self.wfile.write(picture + b"\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def camera():
    """The address of a camera."""
    Camera.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/camera"
    server.shutdown()
    server.server_close()


def test_predict__stream(camera):
    result = yolo_mha.predict(source=camera, stream_buffer=True, imgsz=192)
    lines = records(result)
    assert 5 <= result.images == len(lines) <= 11
    assert [name.split(": ")[1] for name in result.skipped] == ["1 frames without a signal"]
    assert (result.skipped_count, result.exit_code) == (1, 1)
    assert sum(result.found.values()) > 0
    video = cv2.VideoCapture(result.outputs["annotated"])
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)


def test_predict__streams_side_by_side(camera, tmp_path):
    (tmp_path / "two.streams").write_text(f"{camera}\n{camera}?second\n")
    result = yolo_mha.predict(source="two.streams", stream_buffer=True, imgsz=192)
    by_source: dict[str, list[int]] = {}
    for line in records(result):
        by_source.setdefault(line["source"], []).append(line["frame"])
    assert len(by_source) == 2
    assert all(len(frames) > 3 and frames == sorted(frames) for frames in by_source.values())
    assert len(list(Path(result.save_dir).glob("*.mp4"))) == 2


def test_predict__a_stream_without_any_signal_is_one_error(camera):
    with pytest.raises(DataError, match=r"no signal(.|\n)*frames without a signal"):
        yolo_mha.predict(source=f"{camera}?dark", stream_buffer=True, imgsz=64)
    assert not Path("runs").exists()


def test_predict__a_stream_without_any_signal_beside_another_is_named(camera, tmp_path):
    (tmp_path / "two.streams").write_text(f"{camera}\n{camera}?dark\n")
    result = yolo_mha.predict(source="two.streams", stream_buffer=True, imgsz=64)
    assert result.images > 3
    assert result.exit_code == 1
    dark = [name for name in result.skipped if "dark" in name]
    assert len(dark) == 1
    assert int(dark[0].split(": ")[1].split()[0]) > 3
    assert len(list(Path(result.save_dir).glob("*.mp4"))) == 1


def test_find__a_stream_that_does_not_answer_is_one_error_within_seconds(monkeypatch, capfd):
    monkeypatch.setattr("yolo_mha.engine.sources.OPEN_TIMEOUT_MS", 1500)
    silent = socket.create_server(("127.0.0.1", 0))
    started = time.monotonic()
    level = cv2.utils.logging.getLogLevel()
    for address in ("rtsp://127.0.0.1:9/x", f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", "77"):
        with pytest.raises(DataError, match="cannot be opened"):
            yolo_mha.predict(source=address)
    assert time.monotonic() - started < 6
    noise = [line for line in capfd.readouterr().err.splitlines() if not line.startswith(("[tcp", "[rtsp"))]
    assert noise == []  # OpenCV's own warnings
    assert cv2.utils.logging.getLogLevel() == level > 0
    silent.close()
    assert not Path("runs").exists()


@pytest.mark.parametrize("other", [np.zeros((32, 32, 3), np.uint8), None, 1.5])
def test_find__of_a_list_with_something_else_says_what(folder, other):
    with pytest.raises(DataError, match="unsupported type") as caught:
        find([folder / "a" / "x.png", other])
    assert caught.value.given == f"{type(other).__name__} in a list"
