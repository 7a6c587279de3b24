"""Detect objects with an exported ONNX model. Needs numpy, opencv-python and onnxruntime, nothing else.

    python onnx_infer.py best.onnx image.jpg --conf 0.25 --iou 0.7 --out drawn.jpg --json

In a program: ``Detector("best.onnx")(cv2.imread("image.jpg"))``. For box detectors that yolo-mha or Ultralytics
exported, static or dynamic, with NMS inside or without; it gives what their ``predict`` gives. Part of yolo-mha,
AGPL-3.0-or-later.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

MAX_DET, MAX_NMS = 300, 30000  # detections of an image, and candidates that NMS looks at
CLASS_OFFSET = 7680  # pixels between the boxes of two classes, so that NMS leaves them alone


class InputError(ValueError):
    """The model or the image cannot be used; the message is one sentence."""


class Detector:
    """An ONNX model, called with images of shape (H, W, 3), BGR, uint8.

    Args:
        model: The ONNX file.
        imgsz: Image size in pixels, for a model with dynamic sizes; that of its export if not given.
        providers: ONNX Runtime's execution providers, such as ``["CUDAExecutionProvider"]``.

    Raises:
        InputError: The file is missing, broken, or another kind of model.
    """

    def __init__(self, model: str | Path, imgsz: int | None = None, providers: tuple = ("CPUExecutionProvider",)):
        if not Path(model).is_file():
            raise InputError(f"Model not found: {model}")
        try:
            self.session = onnxruntime.InferenceSession(str(model), providers=list(providers))
        except Exception as e:  # each fault has a class of its own
            raise InputError(f"ONNX Runtime cannot open {model}: {' '.join(str(e).split())[:200]}") from e
        meta = self.session.get_modelmeta().custom_metadata_map
        self.input = self.session.get_inputs()[0]
        if meta.get("task") != "detect" or not {"names", "stride", "imgsz"} <= set(meta) or len(self.input.shape) != 4:
            raise InputError(f"{model} is no box detector exported by yolo-mha or Ultralytics.")
        self.names: dict[int, str] = ast.literal_eval(meta["names"])
        self.stride = int(meta["stride"])
        nms_inside = ast.literal_eval(meta.get("args", "{}")).get("nms")
        self.end2end = bool(ast.literal_eval(meta.get("end2end", "False")) or nms_inside)
        self.dtype = np.float16 if "float16" in self.input.type else np.float32
        batch, channels, height, width = self.input.shape  # names in place of numbers where they are dynamic
        if channels != 3:
            raise InputError(f"{model} takes images of {channels} channels; this file gives it colour images, of 3.")
        self.batch = batch if isinstance(batch, int) else 1
        self.dynamic = not isinstance(height, int)
        if imgsz is not None and not self.dynamic:
            raise InputError(f"{model} has a fixed image size, {height}x{width}; imgsz={imgsz} needs a dynamic export.")
        if self.dynamic:
            sides = [imgsz, imgsz] if imgsz else ast.literal_eval(meta["imgsz"])
            height, width = (max(-(-side // self.stride), 1) * self.stride for side in sides)
        self.height, self.width = height, width

    def __call__(self, image: np.ndarray, conf: float = 0.25, iou: float = 0.7) -> list[dict]:
        """Return detections, best first: ``name``, ``class``, ``score``, and ``box`` as x1, y1, x2, y2 in pixels.

        Args:
            image: The image.
            conf: Lowest score. A model with NMS inside gives none below the one of its export.
            iou: Of two boxes of a class that overlap by more, the better one stays. With NMS inside, the model decides.

        Raises:
            InputError: The model fails on an image of this shape.
        """
        padded = letterbox(image, self.height, self.width, self.stride if self.dynamic else 0)
        tensor = padded[:, :, ::-1].transpose(2, 0, 1).astype(self.dtype) / self.dtype(255)  # (3, H, W), RGB
        tensor = np.ascontiguousarray(np.repeat(tensor[None], self.batch, axis=0))
        try:
            output = self.session.run(None, {self.input.name: tensor})[0][0]
        except Exception as e:  # such as fewer places in the image than an end-to-end model has to choose
            size = f"{padded.shape[1]}x{padded.shape[0]}"
            raise InputError(f"The model fails on an image of {size} pixels: {' '.join(str(e).split())[:200]}") from e
        found = output[output[:, 4] > conf][:MAX_DET].astype(np.float32) if self.end2end else decode(output, conf, iou)
        found = np.hstack([scale_back(found[:, :4], padded.shape, image.shape), found[:, 4:]]).tolist()
        return [{"name": self.names[int(c)], "class": int(c), "score": s, "box": box} for *box, s, c in found]


def letterbox(image: np.ndarray, height: int, width: int, stride: int = 0) -> np.ndarray:
    """Resize into height x width and pad with grey: up to all of it, or with ``stride`` to the next multiple only."""
    gain = min(height / image.shape[0], width / image.shape[1])
    inner = [max(round(side * gain), 1) for side in image.shape[:2]]
    pads = [height - inner[0], width - inner[1]]
    if stride:
        pads = [pad % stride for pad in pads]
    if list(image.shape[:2]) != inner:
        image = cv2.resize(image, (inner[1], inner[0]), interpolation=cv2.INTER_LINEAR)
    (top, left), (bottom, right) = [[round(pad / 2 + side) for pad in pads] for side in (-0.1, 0.1)]
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def decode(output: np.ndarray, conf: float, iou: float) -> np.ndarray:
    """Turn raw output, (4 + classes, anchors), into rows of x1, y1, x2, y2, score, class, best first, after NMS."""
    classes, scores = output[4:].argmax(0), output[4:].max(0)
    candidates = np.flatnonzero(scores > conf)
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")][:MAX_NMS]
    centre, size = output[:2, candidates].T, output[2:4, candidates].T
    classes = classes[candidates, None].astype(np.float32)
    boxes = np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)  # rounded as the output is
    kept = nms(boxes + classes * CLASS_OFFSET, iou)
    return np.hstack([boxes, scores[candidates, None], classes])[kept]


def nms(boxes: np.ndarray, iou: float) -> list[int]:
    """Return the indices of the boxes to keep: none overlaps a better one by more than ``iou``. Best box first."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    rest = np.arange(len(boxes))
    while len(rest) and len(kept) < MAX_DET:
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clip(0).prod(1)
        with np.errstate(invalid="ignore", divide="ignore"):  # empty boxes
            rest = rest[~(shared / (areas[best] + areas[rest] - shared) > iou)]
    return kept


def scale_back(boxes: np.ndarray, padded: tuple, original: tuple) -> np.ndarray:
    """Move boxes from the padded image to the original, and clip them; from the shapes alone, as Ultralytics does."""
    gain = min(padded[0] / original[0], padded[1] / original[1])
    height, width = (max(round(side * gain), 1) for side in original[:2])
    left, top = round((padded[1] - width) / 2 - 0.1), round((padded[0] - height) / 2 - 0.1)
    boxes = (boxes - [left, top] * 2) / ([width / original[1], height / original[0]] * 2)
    return boxes.clip(0, [original[1], original[0]] * 2)


def draw(image: np.ndarray, detections: list[dict]) -> np.ndarray:
    """Return a copy of the image with boxes, names and scores on it."""
    image = image.copy()
    for found in detections:
        colour = [int(v) for v in np.random.default_rng(found["class"]).integers(60, 256, 3)]
        x1, y1, x2, y2 = (round(v) for v in found["box"])
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2)
        text, place = f"{found['name']} {found['score']:.2f}", (x1, max(y1 - 4, 12))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return image


def read_image(path: str) -> np.ndarray:
    """Read an image as (H, W, 3), BGR, turned as its EXIF data says."""
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; give one image.")
    data = np.fromfile(path, np.uint8) if Path(path).is_file() else None
    if data is None:
        raise InputError(f"Image not found: {path}")
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(f"{path} cannot be read as an image.")
    return image


def run(options: argparse.Namespace) -> None:
    """Detect in one image and print what was found."""
    detector, image = Detector(options.model, options.imgsz), read_image(options.image)
    detections = detector(image, options.conf, options.iou)
    if options.out:
        try:
            written = cv2.imwrite(options.out, draw(image, detections))
        except cv2.error:  # no picture format of this name
            written = False
        if not written:
            raise InputError(f"{options.out} cannot be written.")
    if options.json:
        height, width = image.shape[:2]
        answer = {"source": options.image, "width": width, "height": height, "detections": detections}
        print(json.dumps(answer, indent=2))
        return
    for found in detections:
        print(f"{found['name']:<16}{found['score']:.3f}  " + " ".join(f"{v:8.1f}" for v in found["box"]))
    print(f"{len(detections)} found" + (f", drawn in {options.out}" if options.out else ""))


def main(arguments: list[str] | None = None) -> int:
    """Return 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(description="Detect objects with an exported ONNX model.")
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("image", help="image file")
    parser.add_argument("--conf", type=float, default=0.25, help="lowest score (default 0.25)")
    parser.add_argument("--iou", type=float, default=0.7, help="overlap above which two boxes are one (default 0.7)")
    parser.add_argument("--imgsz", type=int, help="image size of a dynamic model (default: that of the export)")
    parser.add_argument("--out", help="where to write the image with the boxes drawn")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if not (0 <= options.conf <= 1 and 0 <= options.iou <= 1):
        parser.error("--conf and --iou are between 0 and 1")
    if options.imgsz is not None and options.imgsz < 1:
        parser.error("--imgsz is 1 or more pixels")
    try:
        run(options)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
