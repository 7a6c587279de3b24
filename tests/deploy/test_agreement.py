import cv2
import numpy as np
import pytest
from networks import opened

import yolo_mha
from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.deploy.agreement import TOLERANCES, Suppression, compare
from yolo_mha.deploy.proof import load_pictures, shapes, to_input
from yolo_mha.deploy.runtime import Runtime
from yolo_mha.errors import YoloMHAError

FP32 = TOLERANCES["fp32"]
IMAGES = np.zeros((1, 3, 64, 64), np.float32)


def agreement(ours, theirs, tolerance=FP32):
    """Compare two made-up outputs."""
    return compare(lambda _: theirs, lambda _: ours, [[IMAGES]], tolerance)[0]


def raw(seed: int = 0, anchors: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    boxes, scores = rng.uniform(0, 300, (2, 4, anchors)), rng.uniform(0, 1, (2, 3, anchors))
    return np.concatenate([boxes, scores], 1).astype(np.float32)


def rows(count: int = 20, seed: int = 0) -> np.ndarray:
    """Detections of two images, best first, filled up with zeros."""
    rng = np.random.default_rng(seed)
    found = np.zeros((2, 30, 6), np.float32)
    found[:, :count, :4] = rng.uniform(0, 300, (2, count, 4))
    found[:, :count, 4] = -np.sort(-rng.uniform(0.3, 1, (2, count)))
    found[:, :count, 5] = rng.integers(0, 3, (2, count))
    return found


def test_compare__raw_outputs():
    ours = raw()
    assert agreement(ours, ours.copy()).ok
    for place, change in (((1, 2, 7), 0.02), ((0, 5, 3), 2e-4)):
        theirs = ours.copy()
        theirs[place] += change
        found = agreement(ours, theirs)
        assert not found.ok
        assert max(found.boxes, found.scores) == pytest.approx(change, rel=0.05)


def test_compare__in_half_precision_boxes_without_an_object_do_not_count():
    ours = raw()
    ours[:, 4:, :10] = 0.01
    theirs = ours.copy()
    theirs[:, :4, :10] += 50
    assert agreement(ours, theirs, TOLERANCES["fp16"]).ok
    theirs[:, :4, 10] += 50
    assert not agreement(ours, theirs, TOLERANCES["fp16"]).ok


@pytest.mark.parametrize("broken", [raw()[:, :, :-1], np.full_like(raw(), np.nan)])
def test_compare__another_shape_or_no_numbers(broken):
    found = agreement(raw(), broken)
    assert not found.ok
    assert found.problem


def test_compare__a_runtime_that_fails_does_not_agree():
    def fail(_):
        raise RuntimeError("no such size")

    found = compare(fail, lambda _: raw(), [[IMAGES]], FP32)[0]
    assert (found.ok, found.problem) == (False, "RuntimeError: no such size")


def test_compare__detections_in_another_order_agree():
    ours = rows()
    theirs = ours[:, ::-1].copy()
    found = agreement(ours, theirs)
    assert found.ok
    assert found.boxes == 0
    assert found.compared == 2 * 2 * 20  # from either side


@pytest.mark.parametrize("count", [1, 3, 20])
def test_compare__a_detection_more_or_less_or_of_another_class_does_not_agree(count):
    ours = rows(count)
    for change in (lambda t: t.__setitem__((0, -1 - (30 - count)), 0), lambda t: t.__setitem__((1, 0, 5), 7)):
        theirs = ours.copy()
        change(theirs)
        for a, b in ((ours, theirs), (theirs, ours)):
            found = agreement(a, b)
            assert not found.ok
            assert "by one of the two only" in found.problem
    assert not agreement(ours, rows(0)).ok
    assert not agreement(rows(0), ours).ok


def test_compare__at_a_cut_a_detection_may_be_in_one_list_only():
    ours = rows(30)  # full, so that the last ones could be others
    theirs = ours.copy()
    theirs[0, -1, :4] += 100
    found = agreement(ours, theirs)
    assert found.ok
    assert found.compared == 2 * 2 * 30 - 2
    theirs[0, 3, :4] += 100
    assert not agreement(ours, theirs).ok
    few, fewer = rows(5), rows(5)
    fewer[0, 4] = 0
    (found,) = compare(lambda _: fewer, lambda _: few, [[IMAGES]], FP32, conf=float(few[0, 4, 4]))
    assert found.ok  # its score is the lowest that is allowed


def test_compare__faint_rows_and_int8_are_not_judged_by_boxes():
    ours = rows()
    ours[:, 10:20, 4] = np.linspace(0.2, 0.1, 10)
    theirs = ours.copy()
    theirs[:, 10:20, 5] += 5
    assert not agreement(ours, theirs).ok
    assert agreement(ours, theirs, TOLERANCES["fp16"]).ok
    theirs[:, 0, 5] += 5
    assert not agreement(ours, theirs, TOLERANCES["fp16"]).ok
    assert agreement(ours, theirs, TOLERANCES["int8"]).ok is None


def test_compare__nothing_found_by_both():
    found = agreement(rows(0), rows(0))
    assert (found.ok, found.compared) == (None, 0)


def test_compare__in_half_precision_without_an_object_only_scores_can_be_wrong():
    ours = raw()
    ours[:, 4:] *= 0.2
    theirs = ours.copy()
    assert agreement(ours, theirs, TOLERANCES["fp16"]).ok is None
    theirs[0, 5, 3] += 0.1
    assert agreement(ours, theirs, TOLERANCES["fp16"]).ok is False


def test_suppression__is_ultralytics_own():
    raw_output = np.zeros((1, 6, 3), np.float32)  # two classes, three anchors: xywh
    raw_output[0, :4] = [[50, 51, 200], [50, 51, 200], [20, 20, 20], [20, 20, 20]]
    raw_output[0, 4] = [0.9, 0.8, 0.7]
    found = Suppression(0.25, 0.5, 10)(raw_output)
    assert found.shape == (1, 10, 6)
    np.testing.assert_allclose(found[0, :2], [[40, 40, 60, 60, 0.9, 0], [190, 190, 210, 210, 0.7, 0]], rtol=1e-6)
    assert not found[0, 2:].any()


def test_shapes__of_a_dynamic_and_of_a_fixed_model():
    assert shapes((640, 640), 32, dynamic=False, batches=(2,)) == [(2, 640, 640)]
    sizes = [(320, 320), (512, 640), (384, 640), (640, 640)]
    assert shapes((640, 640), 64, dynamic=True, batches=(1, 3)) == [(b, *s) for s in sizes for b in (1, 3)]


def test_pictures__are_three_and_letterboxed():
    pictures = load_pictures(None)
    assert len({p.tobytes() for p in pictures}) == 3
    image = to_input(pictures[0], 96, 160)
    assert image.shape == (3, 96, 160)
    assert image.dtype == np.float32
    assert image[:, :, 0] == pytest.approx(114 / 255)  # upright picture in a wide frame
    assert to_input(pictures[0], 96, 160, channels=1).shape == (1, 96, 160)
    assert to_input(pictures[0], 96, 160, channels=5).shape == (5, 96, 160)


def test_pictures__of_a_dataset_show_the_most_objects(beacons):
    samples = read_split(load_dataset(beacons), "val")
    most = max(samples, key=lambda sample: len(sample.boxes))
    assert (load_pictures(samples)[0] == cv2.imread(str(most.image))).all()


def test_runtime__another_model_does_not_agree(tmp_path):
    file = yolo_mha.export(opened("yolov8n-mha-p5.yaml"), imgsz=64).file
    other = yolo_mha.YOLO("opened.pt")
    for module in other.model.modules():
        if isinstance(module, yolo_mha.SpatialMHABlock):
            module.gate.weight.data.fill_(5.0)
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    assert not compare(Runtime(file), Runtime(other.model), [[images]], FP32)[0].ok
    assert compare(Runtime(file), Runtime("opened.pt"), [[images]], FP32)[0].ok


def test_runtime__a_broken_file_is_one_error(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(YoloMHAError):
        Runtime("x.onnx")
