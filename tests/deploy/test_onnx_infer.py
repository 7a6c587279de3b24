import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from ultralytics.data.augment import LetterBox
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.deploy.fuse_attention import fuse_attention

FILE = Path(__file__).parents[2] / "yolo_mha" / "deploy" / "onnx_infer.py"
REFUSE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "ultralytics", "yolo_mha", "PIL"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def infer():
    """The file, imported as somebody's own module."""
    spec = importlib.util.spec_from_file_location("onnx_infer", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def untrained(name: str, folder: Path) -> str:
    """A checkpoint that finds something: with norms that have seen pictures, and class scores all over the range."""
    torch.manual_seed(0)
    network = yolo_mha.YOLO(name)
    head = network.model.model[-1]
    for module in network.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        images = np.stack([draw(0, i)[0] for i in range(4)])
        network.model.train()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
        for branch in [*head.cv3, *getattr(head, "one2one_cv3", [])]:
            branch[-1].weight.normal_(0, 0.3)
            branch[-1].bias.fill_(-3)
    network.save(folder / f"{Path(name).stem}.pt")
    return str(folder / f"{Path(name).stem}.pt")


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, str]:
    """ONNX files of every kind."""
    folder = tmp_path_factory.mktemp("onnx")
    v8, v26 = untrained("yolov8n-mha-p5.yaml", folder), untrained("yolo26n-mha-p5.yaml", folder)
    settings = {
        "dynamic": (v8, {"dynamic": True, "imgsz": 160}),
        "static": (v8, {"imgsz": [96, 160], "batch": 2}),
        "nms inside": (v8, {"nms": True, "imgsz": 160, "conf": 0.3, "iou": 0.5}),
        "end to end": (v26, {"nms": False, "dynamic": True, "imgsz": 320}),
    }
    files = {}
    for kind, (source, given) in settings.items():
        made = yolo_mha.YOLO(source).export(format="onnx", simplify=False, **given)
        files[kind] = str(Path(made).rename(folder / f"{kind}.onnx"))
    half = convert_float_to_float16(onnx.load(files["static"]), keep_io_types=False)
    onnx.save(half, folder / "half.onnx")
    demo = yolo_mha.YOLO("demo-mha.pt")
    demo.model.pt_path = str(folder / "demo.pt")
    plain = demo.export(format="onnx", dynamic=True)
    fused = onnx.load(plain)
    assert fuse_attention(fused, 192, 192)[0] > 0  # an operator of com.microsoft
    onnx.save(fused, folder / "fused.onnx")
    return {**files, "half": str(folder / "half.onnx"), "demo": plain, "fused": str(folder / "fused.onnx")}


def pictures() -> dict[str, np.ndarray]:
    beacon = draw(1, 0)[0]
    return {
        "beacons": beacon,
        "odd": cv2.resize(draw(1, 1)[0], (641, 355)),
        "tall": cv2.resize(draw(1, 2)[0], (75, 301)),
        "thin": np.ascontiguousarray(beacon[:1]),
    }


def assert_same(ours: list[dict], theirs, boxes: float = 0.5, scores: float = 1e-3) -> None:
    assert [d["class"] for d in ours] == theirs.boxes.cls.int().tolist()
    assert [d["name"] for d in ours] == [theirs.names[int(c)] for c in theirs.boxes.cls]
    if len(ours):
        assert np.abs(np.array([d["box"] for d in ours]) - theirs.boxes.xyxy.numpy()).max() <= boxes
        assert np.abs(np.array([d["score"] for d in ours]) - theirs.boxes.conf.numpy()).max() <= scores


@pytest.mark.parametrize(
    "kind",
    [
        "dynamic",
        "end to end",
        "demo",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("static", "half", "nms inside", "fused")),
    ],
)
def test_detector__finds_what_predict_finds(infer, exported, kind):
    detector, model = infer.Detector(exported[kind]), yolo_mha.YOLO(exported[kind])
    found = 0
    for name, image in pictures().items():
        if (kind, name) == ("end to end", "thin"):
            with pytest.raises(infer.InputError, match="320x32"):  # not the 300 places that the model chooses
                detector(image)
            continue
        ours = detector(image, conf=0.3, iou=0.5)
        assert_same(ours, model.predict(image, conf=0.3, iou=0.5, verbose=False)[0], 1.0 if kind == "half" else 0.5)
        found += len(ours)
    assert found > 5


def test_detector__dynamic_model_at_another_size(infer, exported):
    image = pictures()["odd"]
    ours = infer.Detector(exported["dynamic"], imgsz=250)(image, conf=0.3)
    theirs = yolo_mha.YOLO(exported["dynamic"]).predict(image, conf=0.3, imgsz=250, verbose=False)[0]
    assert_same(ours, theirs)
    assert len(ours) != len(infer.Detector(exported["dynamic"])(image, conf=0.3))


def test_detector__finds_the_beacons(infer, exported):
    image, labels = draw(1, 0)
    found = infer.Detector(exported["demo"])(image)
    assert sorted(d["class"] for d in found) == sorted(labels[:, 0].astype(int).tolist())


def test_detector__real_picture_as_predict_writes_it(infer, exported, test_data):
    for kind in ("dynamic", "end to end"):
        file = test_data / "video" / "bus.jpg"
        ours = infer.Detector(exported[kind])(infer.read_image(str(file)), conf=0.3)
        result = yolo_mha.predict(exported[kind], file, conf=0.3, save=False)
        theirs = json.loads(Path(result.predictions).read_text())["detections"]
        assert len(theirs) > 5
        assert [(d["name"], d["class"]) for d in ours] == [(d["name"], d["class"]) for d in theirs]
        assert np.abs(np.array([d["box"] for d in ours]) - [d["box"] for d in theirs]).max() < 0.5
        assert np.allclose([d["score"] for d in ours], [d["score"] for d in theirs], atol=1e-3)


@pytest.mark.parametrize("shape", [(192, 192), (355, 641), (641, 355), (301, 75), (1, 3000), (1080, 810), (479, 640)])
@pytest.mark.parametrize("stride", [0, 32])
def test_letterbox__and_back_as_ultralytics(infer, shape, stride):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    ours = infer.letterbox(image, 320, 224, stride)
    assert np.array_equal(ours, LetterBox((320, 224), auto=stride > 0, stride=stride or 32)(image=image))
    boxes = np.sort(rng.random((50, 2, 2)) * 320, axis=1).reshape(-1, 4).astype(np.float32)
    theirs = scale_boxes(ours.shape, torch.from_numpy(boxes.copy()), shape).numpy()
    assert np.allclose(infer.scale_back(boxes, ours.shape, shape), theirs, atol=1e-2)


@pytest.mark.parametrize(
    ("conf", "iou", "anchors", "size", "empty"),
    [(0.25, 0.7, 3000, 60, 0.1), (0.01, 0.3, 3000, 60, 0.1), (0.001, 0.1, 3000, 200, 0)],
)
def test_decode__as_ultralytics(infer, conf, iou, anchors, size, empty):
    """Also with more than 300 to keep, and boxes without area."""
    rng = np.random.default_rng(0)
    sizes = rng.random((2, anchors)) * size * (rng.random((2, anchors)) >= empty)
    scores = rng.permutation(5 * anchors).reshape(5, anchors) / (5 * anchors)  # no two are the same
    output = np.concatenate([rng.random((2, anchors)) * 320, sizes, scores]).astype(np.float32)
    theirs = non_max_suppression(torch.from_numpy(output.copy())[None], conf, iou)[0].numpy()
    ours = infer.decode(output, conf, iou)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4
    assert len(ours) > 100


def test_nms__keeps_boxes_that_overlap_by_just_the_threshold(infer):
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)
    assert infer.nms(boxes, 0.5) == [0, 1]
    assert infer.nms(boxes, 0.49) == [0]


def test_decode__looks_at_the_best_30000(infer):
    output = np.full((5, 30002), 50, np.float32)
    output[0, 29999:] = 300, 500, 700  # the others all lie at the same place
    output[4] = np.linspace(0.9, 0.2, 30002)
    found = infer.decode(output, 0.1, 0.5)
    assert found[:, 0].tolist() == [25, 275]
    assert np.array_equal(found, non_max_suppression(torch.from_numpy(output)[None], 0.1, 0.5)[0].numpy())


def test_decode__nothing_found(infer):
    assert infer.decode(np.zeros((9, 100), np.float32), 0.25, 0.7).shape == (0, 6)


def test_main__needs_neither_torch_nor_ultralytics(exported, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), draw(1, 0)[0])
    words = [FILE, exported["demo"], "x.png", "--json", "--out", "drawn.jpg"]
    done = subprocess.run([sys.executable, "-c", REFUSE, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["source"], answer["width"], answer["height"]) == ("x.png", 192, 192)
    assert len(answer["detections"]) == len(draw(1, 0)[1])
    drawn = cv2.imread(str(tmp_path / "drawn.jpg"))
    assert np.abs(drawn.astype(int) - draw(1, 0)[0]).max() > 60


def test_main__prints_a_line_for_each(infer, exported, tmp_path, capsys):
    cv2.imwrite("x.png", draw(1, 0)[0])
    assert infer.main([exported["demo"], "x.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(draw(1, 0)[1]) + 1
    assert lines[-1] == f"{len(lines) - 1} found"


def test_main__bad_input_is_one_sentence(infer, exported, tmp_path, capsys):
    cv2.imwrite("x.png", draw(1, 0)[0])
    Path("text.onnx").write_text("text")
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("text")
    other = onnx.load(exported["demo"])
    next(p for p in other.metadata_props if p.key == "task").value = "segment"
    onnx.save(other, "segment.onnx")
    del other.metadata_props[:]
    onnx.save(other, "plain.onnx")
    before, demo = sorted(tmp_path.iterdir()), exported["demo"]
    for words, expected in [
        (["nowhere.onnx", "x.png"], "Model not found"),
        (["text.onnx", "x.png"], "cannot open text.onnx"),
        (["segment.onnx", "x.png"], "no box detector"),
        (["plain.onnx", "x.png"], "no box detector"),
        ([demo, "nowhere.jpg"], "Image not found"),
        ([demo, "."], ". is a folder"),
        ([demo, "empty.jpg"], "cannot be read"),
        ([demo, "text.jpg"], "cannot be read"),
        ([exported["static"], "x.png", "--imgsz", "320"], "fixed image size"),
        ([demo, "x.png", "--out", "drawn.nothing"], "cannot be written"),
        ([demo, "x.png", "--out", "no/such/folder.jpg"], "cannot be written"),
    ]:
        assert infer.main(words) == 2
        out, err = capsys.readouterr()
        assert expected in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert out == ""
    for words in ([demo, "x.png", "--conf", "2"], [demo, "x.png", "--imgsz", "0"], [demo]):
        with pytest.raises(SystemExit) as ended:
            infer.main(words)
        assert ended.value.code == 2
    assert sorted(tmp_path.iterdir()) == before
