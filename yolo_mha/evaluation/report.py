"""The comparison as a page that opens in a browser without a network, and the picture in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import matplotlib
import numpy as np
from ultralytics.utils.plotting import Annotator, colors

from ..data.files import whole_file, write_text
from ..data.yolo import Sample
from ..engine.model import YOLO
from .coco import METRICS
from .comparison import Comparison

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLUMNS = 4
WIDTH = 384  # pixels of one picture in the grid


def draw_detections(
    weights: Mapping[str, Path], samples: Sequence[Sample], names: Mapping[int, str], path: Path, imgsz: int
) -> Path:
    """Draw the same images a row an arm, below a row of the ground truth.

    Args:
        weights: Checkpoints by arm name.
        samples: The images to choose from: those with objects, evenly spread.
        names: Class names by index.
        path: The picture.
        imgsz: Image size of the models in pixels.
    """
    labelled = [s for s in samples if len(s.classes)]
    chosen = [labelled[i] for i in np.linspace(0, len(labelled) - 1, min(COLUMNS, len(labelled))).astype(int)]
    rows = [_row("ground truth", [_draw(s, s.boxes, s.classes, None, names) for s in chosen])]
    for arm, file in weights.items():
        network = YOLO(file)
        pictures = []
        for sample in chosen:
            boxes = network.predict(str(sample.image), imgsz=imgsz, conf=0.25, verbose=False)[0].boxes
            xyxy, classes, scores = (np.asarray(t.cpu()) for t in (boxes.xyxy, boxes.cls, boxes.conf))
            pictures.append(_draw(sample, xyxy, classes.astype(int), scores, names))
        rows.append(_row(arm, pictures))
    with whole_file(path) as temporary:
        cv2.imwrite(str(temporary), np.vstack(rows))
    return path


def _draw(sample: Sample, boxes: Any, classes: Any, scores: Any, names: Mapping[int, str]) -> Any:
    image: Any = cv2.imread(str(sample.image))
    scale = WIDTH / max(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    annotator = Annotator(image, line_width=2, font_size=11)
    for i, (box, kind) in enumerate(zip(boxes, classes, strict=True)):
        label = names[int(kind)] if scores is None else f"{names[int(kind)]} {scores[i]:.2f}"
        annotator.box_label(box * scale, label, color=colors(int(kind), True))
    return annotator.result()


def _row(title: str, pictures: Sequence[Any]) -> Any:
    height = max(p.shape[0] for p in pictures)
    row = np.hstack(
        [
            cv2.copyMakeBorder(
                p, 0, height - p.shape[0], 0, WIDTH - p.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)
            )
            for p in pictures
        ]
    )
    strip = np.full((32, row.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([strip, row])


def _curves(comparison: Comparison) -> bytes:
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for arm, result in comparison.arms.items():
        axes.plot(range(1, len(result.curve) + 1), result.curve, marker="o", markersize=3, label=arm)
    axes.set(xlabel="epoch", ylabel="mAP50-95 (Ultralytics, during training)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the report page.

    Args:
        comparison: What to report; its folder holds ``detections.png``.
        path: The HTML file.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("yolo_mha.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        comparison=comparison,
        metrics=METRICS,
        classes=sorted({c for r in comparison.arms.values() for c in r.per_class}),
        curves=base64.b64encode(_curves(comparison)).decode(),
        picture=base64.b64encode((Path(comparison.save_dir) / "detections.png").read_bytes()).decode(),
    )
    return write_text(path, page)
