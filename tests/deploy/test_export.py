import json
import shutil
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import opened
from reading import counted
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import ASSETS

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.deploy.agreement import TOLERANCES, Agreement, Tolerance
from yolo_mha.deploy.export import _note_on_bf16
from yolo_mha.deploy.export_result import ExportResult
from yolo_mha.deploy.export_settings import PROVED_FORMATS
from yolo_mha.deploy.onnx_infer import Detector, InputError
from yolo_mha.deploy.proof import Scores, keeps, load_pictures
from yolo_mha.errors import CheckpointError, ConfigError, DataError, DependencyError, RunError
from yolo_mha.paths import PACKAGE, shipped

SAMPLE = ASSETS / "bus.jpg"


@pytest.fixture(scope="module")
def p5(tmp_path_factory) -> Path:
    """A YOLO11n with attention at P5 whose gate is open, with norms that have seen data."""
    return opened("yolo11n-mha-p5.yaml", tmp_path_factory.mktemp("p5") / "p5.pt")


def test_export__dynamic_onnx_agrees_at_every_size_and_batch(p5, tmp_path):
    shutil.copy(p5, tmp_path)
    result = yolo_mha.export(tmp_path / p5.name, format="onnx", dynamic=True, imgsz=96)
    sizes = [(320, 320), (480, 640), (64, 96), (96, 96)]
    assert [(a.batch, a.height, a.width) for a in result.agreement] == [(b, *s) for s in sizes for b in (1, 3)]
    assert result.ok, result.agreement
    assert max(a.boxes for a in result.agreement) < 1e-2
    assert max(a.scores for a in result.agreement) < 1e-4
    assert json.loads(Path(result.proof).read_text()) == result.as_dict()
    model = onnx.load(result.file)
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "", "height", "width"]
    assert {"names", "stride", "task"} <= {p.key for p in model.metadata_props}
    found = yolo_mha.YOLO(result.file).predict(np.zeros((100, 130, 3), np.uint8), imgsz=160, verbose=False)
    assert len(found) == 1


@pytest.fixture(scope="module")
def small(p5) -> ExportResult:
    """That network exported at 64 pixels; the tests of its folder below write nothing else there."""
    return yolo_mha.export(p5, format="ONNX", imgsz=64)


def test_export__static_onnx_agrees_at_its_shape(p5, tmp_path):
    shutil.copy(p5, tmp_path)
    result = yolo_mha.export(tmp_path / p5.name, format="onnx", imgsz=[96, 160])
    assert [(a.batch, a.height, a.width) for a in result.agreement] == [(1, 96, 160)]
    assert result.ok, result.agreement


def test_export__a_single_image_model_is_shown_every_picture(beacons, monkeypatch):
    """The first picture is empty, and the objects of the others are compared."""
    pictures = load_pictures(read_split(load_dataset(beacons), "val"))
    empty = [np.full_like(pictures[0], 114), *pictures[1:]]
    monkeypatch.setattr("yolo_mha.deploy.export.load_pictures", lambda *_: empty)
    result = yolo_mha.export("demo-mha.pt", half=True)
    assert result.verdict == "proved"


def test_export__checks_at_multiples_of_the_stride(small_sizes):
    """A P6 model has stride 64, of which 96, 90 and 160 are no multiples."""
    result = yolo_mha.export("yolov8n-p6.yaml", format="onnx", dynamic=True, imgsz=192, simplify=False)
    assert {(a.height, a.width) for a in result.agreement} == {(128, 128), (128, 192), (192, 192)}
    assert result.ok, result.agreement


def test_export__of_a_shipped_model_lies_in_the_working_directory(tmp_path):
    result = yolo_mha.export("demo-mha.pt", imgsz=[96])
    assert Path(result.file).resolve().parent == tmp_path
    assert result.ok
    assert not list(shipped("weights").glob("*.onnx"))


@pytest.mark.parametrize("name", ["yolov8n-mha-p3.yaml", "yolov8n-mha-cross.yaml"])
def test_export__every_placement_agrees(name, small_sizes):
    model = opened(name)
    assert yolo_mha.export(model, imgsz=64, dynamic=True, simplify=False).ok


@pytest.mark.parametrize("opset", [17, *(pytest.param(n, marks=pytest.mark.slow) for n in (18, 19, 20))])
def test_export__opsets(p5, tmp_path, opset):
    shutil.copy(p5, tmp_path)
    result = yolo_mha.export(tmp_path / p5.name, imgsz=64, opset=opset, simplify=opset == 20)
    assert result.ok, result.agreement
    assert onnx.load(result.file).opset_import[0].version == opset


@pytest.mark.parametrize("format", ["torchscript", "openvino"])
def test_export__other_runtimes_are_proved_too(format, small_sizes):
    """OpenVINO computes in bf16 by itself where the processor can; compared is what was exported."""
    if format == "openvino":
        pytest.importorskip("openvino")
    Path("my.pt.runs").mkdir()  # in such a folder Ultralytics alone writes to another one
    checkpoint = shutil.copy(shipped("weights") / "demo-mha.pt", "my.pt.runs")
    before = set(Path().iterdir())
    result = yolo_mha.export(checkpoint, format=format, dynamic=True)
    assert set(Path().iterdir()) == before
    assert result.ok, result.agreement
    assert len(result.agreement) == 8
    assert all(a.compared for a in result.agreement)
    assert max(a.boxes for a in result.agreement) < 1e-2
    network = yolo_mha.YOLO(result.file, trust=True)
    found = network.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, verbose=False)
    assert found[0].names == yolo_mha.YOLO("demo-mha.pt").names


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="needs an environment without TensorFlow")
def test_export__a_format_that_quantizes_by_itself_gets_the_data(beacons, monkeypatch):
    seen = {}

    def run(network, beside, **settings):
        seen.update(settings)
        raise DependencyError("enough")

    monkeypatch.setattr("yolo_mha.deploy.export.run_exporter", run)
    with pytest.raises(DependencyError):
        yolo_mha.export("demo-mha.pt", format="edgetpu", data=beacons)
    assert load_dataset(seen["data"]).source == beacons  # it is a mirror


def test_export__a_segmentation_model_gets_no_file_for_detectors():
    result = yolo_mha.export("yolo11n-seg.yaml", imgsz=64, simplify=False)
    assert (result.verdict, result.standalone) == ("not covered", "")
    assert not Path("onnx_infer.py").exists()


def test_note_on_bf16__only_where_the_runtime_differs():
    def taken(boxes, scores):
        return [Agreement(1, 64, 64, boxes, scores, 5, True)]

    (note,) = _note_on_bf16(taken(1e-4, 1e-6), taken(None, 0.03))
    assert "px" not in note

    assert _note_on_bf16(taken(1e-4, 1e-6), taken(2e-4, 2e-6)) == []
    (note,) = _note_on_bf16(taken(1e-4, 1e-6), taken(0.5, 0.03))
    assert "0.5 px" in note


def test_export__with_data_scores_both(beacons, small_sizes):
    result = yolo_mha.export("demo-mha.pt", data=beacons, dynamic=True)
    assert result.ok
    assert result.scores.trained["AP"] > 0.8
    assert result.scores.exported == pytest.approx(result.scores.trained, abs=1e-3)
    assert result.scores.imgsz == 192


def test_export__reads_each_image_of_the_data_once(beacons):
    with counted() as verified:
        result = yolo_mha.export("demo-mha.pt", int8=True, data=beacons, imgsz=64)
    assert result.scores
    assert sorted((image.parent.name, times) for image, times in verified.items()) == [
        *[("train", 1)] * 16,
        *[("val", 1)] * 8,
    ]


def test_export__that_loses_ap_is_out_of_tolerance(beacons, monkeypatch):
    taken = Scores("x", "val", 192, {"AP": 0.5, "AP50": 0.6}, {"AP": 0.49, "AP50": 0.6}, ok=False)
    monkeypatch.setattr("yolo_mha.deploy.export.score_both", lambda *_: taken)
    result = yolo_mha.export("demo-mha.pt", data=beacons)
    assert all(a.ok for a in result.agreement)
    assert not result.ok


@pytest.mark.parametrize(
    ("before", "after", "precision", "ok"),
    [
        (0.5, 0.485, "fp16", True),
        (0.5, 0.485, "fp32", False),
        (0.5, 0.47, "fp16", False),
        (0.05, 0.04, "fp16", False),  # a fifth of it
        (0.0, 0.0, "fp16", None),  # nothing is shown
        (8e-6, 2e-5, "int8", None),
    ],
)
def test_keeps(before, after, precision, ok):
    assert keeps(before, after, precision) is ok


def test_export__of_another_shape_than_a_square_takes_no_ap(beacons):
    result = yolo_mha.export("demo-mha.pt", data=beacons, imgsz=[96, 192])
    assert (result.ok, result.scores) == (True, None)
    assert "AP was not taken" in " ".join(result.notes)


def test_export__other_classes_are_named_before_the_work(p5, beacons):
    with pytest.raises(DataError, match="classes"):
        yolo_mha.export(p5, data=beacons)
    assert not p5.with_suffix(".onnx").exists() or p5.with_suffix(".onnx").stat().st_mtime < time.time() - 1


def test_export__a_gray_model():
    model = DetectionModel(str(shipped("cfg") / "models" / "demo-mha.yaml"), ch=1, verbose=False)
    torch.save({"model": model}, "gray.pt")  # a YAML's own channels: are not heeded by Ultralytics
    result = yolo_mha.export("gray.pt", imgsz=64)
    assert onnx.load(result.file).graph.input[0].type.tensor_type.shape.dim[1].dim_value == 1
    assert result.ok, result.agreement
    assert (result.standalone, Path("onnx_infer.py").exists()) == ("", False)  # which reads colour images
    with pytest.raises(InputError, match="takes images of 1 channels"):
        Detector(result.file)


def test_export__says_where_a_model_gives_the_same_for_every_picture():
    """As one of random weights does, so far from its input; the demo's trained model and a calibrated one do not."""
    said = "the model gives the same for every picture"
    assert any(note.startswith(said) for note in yolo_mha.export("yolov8n-mha-p5.yaml", imgsz=64).notes)
    assert not any(note.startswith(said) for note in yolo_mha.export("demo-mha.pt").notes)


def test_export__half_precision_states_its_difference(beacons):
    result = yolo_mha.export("demo-mha.pt", data=beacons, half=True)
    assert Path(result.file).name == "demo-mha_fp16.onnx"
    assert result.ok, result.agreement
    assert result.agreement[0].compared > 0
    assert result.agreement[0].boxes > 1e-4  # it is another precision
    assert {t.data_type for t in onnx.load(result.file).graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert result.scores.exported["AP"] == pytest.approx(result.scores.trained["AP"], abs=0.02)


def test_export__with_suppression_gives_the_same_detections(beacons, monkeypatch):
    monkeypatch.setattr("yolo_mha.deploy.proof.DYNAMIC_SIZES", ((192, 256),))  # in which objects are found
    settings = {"dynamic": True, "nms": True, "batch": 3, "conf": 0.3, "iou": 0.5, "simplify": False}
    result = yolo_mha.export("demo-mha.pt", data=beacons, **settings)
    assert result.ok, result.agreement
    assert all(a.compared for a in result.agreement)
    model = onnx.load(result.file)
    assert "NonMaxSuppression" in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("words", [["model=demo-mha.pt", "nms=True", "conf=0.9999"], ["half=True", "imgsz=64"]])
def test_export__without_objects_in_the_pictures_nothing_is_proved(words, p5, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--json", *([] if "model=demo-mha.pt" in words else [f"model={p5}"]), *words])
    result = json.loads(capsys.readouterr().out)
    assert (ended.value.code, result["verdict"], result["ok"]) == (1, "nothing compared", False)
    assert [a["ok"] for a in result["agreement"]] == [None]
    assert "no box was compared" in result["notes"][-1]
    assert "data=my.yaml" in result["notes"][-1]
    assert "out_of_tolerance" not in result["file"]


def test_export__ap_proves_what_the_three_pictures_do_not(beacons):
    result = yolo_mha.export("demo-mha.pt", data=beacons, nms=True, conf=0.97)
    assert result.verdict == "proved"
    assert result.scores.ok
    assert "no box was compared" not in " ".join(result.notes)
    scored, seen = yolo_mha.val(result.file, beacons, plots=False), yolo_mha.predict(result.file, SAMPLE, save=False)
    for notes in (scored.audit.notes, seen.notes):
        assert sum("the conf, iou and max_det of its export hold" in note for note in notes) == 1


def test_export__without_its_metadata_is_not_opened():
    """Ultralytics would invent names for its classes."""
    model = onnx.load(yolo_mha.export("demo-mha.pt").file)
    del model.metadata_props[:]
    onnx.save(model, "bare.onnx")
    with pytest.raises(CheckpointError, match="does not name its classes"):
        yolo_mha.predict("bare.onnx", SAMPLE)


def test_export__without_an_ap_to_keep_the_outputs_decide(beacons, tmp_path):
    untrained = yolo_mha.YOLO("demo-mha.yaml")
    untrained.model.names = yolo_mha.YOLO("demo-mha.pt").names
    untrained.save(tmp_path / "untrained.pt")
    result = yolo_mha.export(tmp_path / "untrained.pt", data=beacons, imgsz=64)
    assert (result.scores.ok, result.verdict) == (None, "proved")
    assert any("AP says nothing of the export" in note for note in result.notes)


def test_export__says_that_a_proved_one_is_replaced(monkeypatch):
    assert yolo_mha.export("demo-mha.pt", half=True, imgsz=192).verdict == "proved"
    monkeypatch.setattr("yolo_mha.deploy.export.load_pictures", lambda *_: [np.full((64, 64, 3), 114, np.uint8)] * 3)
    result = yolo_mha.export("demo-mha.pt", half=True, imgsz=192)
    assert result.verdict == "nothing compared"
    assert "replaces one that was proved" in result.notes


def test_export__says_what_it_replaces(tmp_path):
    export = partial(yolo_mha.export, "demo-mha.pt", simplify=False)
    assert export(imgsz=64).notes == []
    assert export(imgsz=64).notes == []
    assert export(imgsz=96).notes == ["replaces an earlier export with imgsz=[64, 64]"]
    Path("demo-mha.onnx.proof.json").unlink()
    assert "not known" in export(imgsz=96, opset=18).notes[0]
    (note,) = export(imgsz=64).notes
    assert note == "replaces an earlier export with imgsz=[96, 96], opset=18"


def test_export__of_one_size_does_not_replace_a_proved_one_of_all(tmp_path):
    export = partial(yolo_mha.export, "demo-mha.pt", imgsz=64, simplify=False)
    before = export()
    proof = json.loads(Path(before.proof).read_text())
    Path(before.proof).write_text(json.dumps({**proof, "verdict": "proved", "settings": {"dynamic": True}}))
    content = Path(before.file).read_bytes()
    with pytest.raises(ConfigError, match="takes all sizes and is proved") as error:
        export()
    assert before.file in error.value.given
    assert Path(before.file).read_bytes() == content
    assert export(half=True).precision == "fp16"  # another file
    Path(before.proof).unlink()
    assert export().settings["imgsz"] == [64, 64]


def test_export__without_its_proof_it_leaves_none_of_another(monkeypatch):
    before = yolo_mha.export("demo-mha.pt", imgsz=64)
    monkeypatch.setattr("yolo_mha.deploy.export_result.write_text", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        yolo_mha.export("demo-mha.pt", imgsz=96)
    assert not Path(before.proof).exists()


def _interrupted(*_):
    raise KeyboardInterrupt


def test_export__says_which_size_it_made():
    (note,) = yolo_mha.export("demo-mha.pt", imgsz=33).notes
    assert "imgsz=33 was given" in note
    assert "works at 40" in note  # its stride is 8


def test_export__folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", _no_space)
    with pytest.raises(ConfigError, match="cannot be written") as failed:
        yolo_mha.export("demo-mha.pt")
    assert "beside its checkpoint" in failed.value.fix


def _no_space(*_, **__):
    raise OSError(28, "No space left on device")


def test_export__out_of_tolerance_is_kept_under_another_name(monkeypatch, capsys):
    monkeypatch.setitem(TOLERANCES, "fp32", Tolerance(1e-12, 1e-14, all_anchors=True))
    before = yolo_mha.export("demo-mha.pt", imgsz=64)
    assert not before.ok
    assert Path(before.file).name == "demo-mha_out_of_tolerance.onnx"
    Path("demo-mha.onnx").write_text("of an earlier export")
    with pytest.raises(SystemExit) as ended:
        main(["export", "model=demo-mha.pt", "imgsz=64"])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "OUT OF TOLERANCE" in shown
    assert "is of an earlier export" in shown


def test_export__what_is_not_proved_is_said(monkeypatch):
    monkeypatch.delitem(PROVED_FORMATS, "torchscript")
    result = yolo_mha.export("demo-mha.pt", format="torchscript", imgsz=64)
    assert (result.ok, result.verdict, result.agreement) == (True, "not covered", [])
    assert "was not tested" in result.notes[0]


def test_export__a_standalone_file_that_the_user_changed_stays(tmp_path):
    (tmp_path / "onnx_infer.py").write_bytes(b"# caf\xe9")
    result = yolo_mha.export("demo-mha.pt", imgsz=64)
    assert (tmp_path / "onnx_infer.py").read_bytes() == b"# caf\xe9"
    assert "left as it is" in " ".join(result.notes)
    assert Path(result.proof).is_file()
    (tmp_path / "onnx_infer.py").unlink()
    result = yolo_mha.export("demo-mha.pt", imgsz=64)
    assert Path(result.standalone).read_text() == (PACKAGE / "deploy" / "onnx_infer.py").read_text()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"int8": True}, "data is missing"),
        ({"quantize": 8}, "data is missing"),
        ({"int8": True, "data": "beacons", "format": "openvino"}, "made for ONNX"),
        ({"fuse_attention": True, "format": "torchscript"}, "made for ONNX"),
        ({"half": True, "int8": True, "data": "beacons"}, "one precision"),
        ({"half": "yes"}, "must be True or False"),
        ({"opset": 11}, "opset"),
        ({"batch": -1}, "1 or more images"),
        ({"imgsz": [64, 64, 3]}, "imgsz"),
        ({"format": "edgetpu"}, "data is missing"),
        ({"split": "test"}, "split has no use alone"),
        ({"conf": 0.5}, "conf has no use alone"),
        ({"format": "torchscript", "half": True, "device": "cpu"}, "GPU"),
        ({"epochs": 3}, "no setting 'epochs'"),
        ({"format": "openvino", "quantize": 8}, "data is missing"),
    ],
)
def test_export__settings_that_do_not_go_together(p5, settings, word):
    before = sorted(p5.parent.iterdir())
    with pytest.raises(ConfigError, match=word):
        yolo_mha.export(p5, **settings)
    assert sorted(p5.parent.iterdir()) == before


def test_export__and_benchmark_require_a_model():
    for command in (yolo_mha.export, yolo_mha.benchmark):
        with pytest.raises(TypeError, match="'model'"):
            command()
        with pytest.raises(ConfigError, match="model="):
            command(None)


@pytest.mark.parametrize("settings", [{"format": "onxx"}, {"opsett": 17}])
def test_export__refuses(p5, settings):
    with pytest.raises(ConfigError):
        yolo_mha.export(p5, **settings)


def test_export__an_exported_model_is_refused(small):
    with pytest.raises(ConfigError, match="Only a PyTorch model"):
        yolo_mha.export(small.file)


def test_export__missing_package_says_which_extra(p5, monkeypatch):
    monkeypatch.setattr("yolo_mha.deploy.export_settings.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"yolo-mha\[export\]"):
        yolo_mha.export(p5)


def test_export__engine_needs_a_gpu(p5):
    with pytest.raises(ConfigError, match="GPU"):
        yolo_mha.export(p5, format="engine", imgsz=64)


@pytest.mark.skipif(find_spec("ncnn") is not None, reason="needs an environment without ncnn")
def test_export__missing_packages_of_another_format_are_named(p5, caplog):
    before = sorted(p5.parent.iterdir())
    with pytest.raises(DependencyError, match="export to ncnn") as failed:
        yolo_mha.export(p5, format="ncnn", imgsz=64)
    assert failed.value.fix.startswith("pip install 'ncnn")
    assert sorted(p5.parent.iterdir()) == before


def test_export__failure_is_one_error_and_leaves_nothing(p5, monkeypatch):
    before = sorted(p5.parent.iterdir())
    monkeypatch.setattr("torch.jit.trace", _no_space)
    with pytest.raises(RunError, match="disk is full"):
        yolo_mha.export(p5, format="torchscript", imgsz=64)
    assert sorted(p5.parent.iterdir()) == before


def test_export__runs_at_the_size_it_was_made_for(beacons, small_sizes):
    file = yolo_mha.export("demo-mha.pt", imgsz=192, dynamic=True).file
    results = [yolo_mha.val(m, beacons, device="cpu") for m in ("demo-mha.pt", file)]
    assert [r.settings["imgsz"] for r in results] == [192, 192]
    # close, not equal: Ultralytics pads to a stride of 32 for a checkpoint, and to the model's own 8 for an export
    assert results[0].coco.metrics["AP"] == pytest.approx(results[1].coco.metrics["AP"], abs=0.05)


def test_export__lies_beside_the_checkpoint(p5, small):
    assert Path(small.file) == p5.with_suffix(".onnx")
    assert not [p for p in p5.parent.iterdir() if p.name.startswith(".")]
