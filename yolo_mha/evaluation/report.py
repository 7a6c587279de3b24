"""The comparison as a page that opens in a browser without a network, and as Markdown."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont
from ultralytics.utils.patches import imread
from ultralytics.utils.plotting import Annotator, colors

from .. import fonts
from ..data.dataset import Sample
from ..data.files import whole_file, write_text
from ..scoring.coco import METRICS
from ..scoring.intervals import Interval
from ..scoring.metric import OVERALL
from ..text import in_line, markdown, short
from .charts import cost_chart, curves_chart, effects_chart
from .comparison import Comparison, Win
from .declared import date_in_words
from .figures import figure, figures, heading, ratio, size

PAGE = "report.html"
WIDTH = 400  # pixels of one of the pictures side by side
SHOWN_SCORE = 0.25
DASH = "\u2013"  # for what there is not
WORDS = {  # what the page and the text say alike
    "arm": "An arm is one of the models that are compared.",
    "seed": "A seed sets the random numbers of a training; another seed is another training of the same model.",
    "chart": (
        "Each row is the difference between two arms; right of 0 the first one is better. Diamond: the difference that "
        "was found, the mean over trainings. Line: where the true difference lies with 95 % confidence. Dots: single "
        "trainings. Grey band: differences that are too small to matter."
    ),
    "cost": (
        "Latency and memory: CPU, batch 1, fused, {imgsz} px, arms in turn. In brackets the median of the ratios to "
        "{base} in the same round, and the range in which it lies with 96 % confidence; an arm's latency is the median "
        "of {base} times this ratio. Memory is what a pass holds beyond weights and input."
    ),
    "jobs": " {jobs} runs were trained at a time, so training times include their competition for the machine.",
    "contrasts": (
        "95 % interval: where the true difference lies with 95 % confidence, if the arms were trained again and scored "
        "on other images of this kind. Smallest detectable: the true difference that a comparison of this size finds "
        "in 8 of 10 cases. Sd over seeds (standard deviation): how far the differences of single trainings lie apart. "
        "Se over images (standard error): what the choice of images adds for all seeds alike. ~ 0: not distinguishable "
        "from 0 with these seeds. Primary: the question that was chosen before the results. Named: others that were "
        "chosen before, tested only where the primary one leaves zero out. Exploratory: all others; a hint and no "
        "proof, for among several of them one comes out by chance more often than 5 in 100 times."
    ),
}


def write_reports(comparison: Comparison, samples: Sequence[Sample], folder: Path) -> None:
    """Write ``report.html``, ``report.md``, the charts in ``charts/`` and the pictures in ``wins/``.

    Args:
        comparison: What to report; the predictions of its runs are in its folder of the split.
        samples: The scored images in the order of the ground truth.
        folder: The comparison's folder.
    """
    pictures = draw_wins(comparison, samples, folder)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("yolo_mha.evaluation", "templates"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "figure": figure,
        "interval": functools.partial(_interval, margin=comparison.recipe.margin),
        "size": _size,
        "ratio": ratio,
        "heading": heading,
        "words": _words,
        "date": date_in_words,
        "code": _code,
        "inline_code": _inline_code,
    }
    plain = environment.overlay(finalize=lambda value: markdown(value) if type(value) is str else value)
    values = {
        "comparison": comparison,
        "primary": comparison.contrasts[0],
        "to_baseline": {c.arm: c for c in comparison.contrasts if (c.against, c.metric) == (comparison.baseline, "AP")},
        "controls": [
            c
            for c in comparison.contrasts
            if comparison.recipe.is_control(c.against, of=c.arm) and c.metric == comparison.recipe.metric
        ],
        "spread": _spread(comparison),
        "metrics": METRICS,
        "overall": OVERALL,
        "interval": heading(c.effect for c in comparison.contrasts),
        "words": _worded(comparison),
        "trained": not comparison.recipe.given,
        "costs": any(arm.cost for arm in comparison.arms.values()),
    }
    charts = {"effects": effects_chart(comparison)}
    charts |= {"curves": curves_chart(comparison)} if values["trained"] else {}
    charts |= {"cost": cost_chart(comparison)} if values["costs"] else {}
    for name, chart in charts.items():
        write_text(folder / "charts" / f"{name}.svg", chart.decode())
    page = environment.get_template("report.html.j2").render(
        **values,
        charts={name: _embedded(chart, "svg+xml") for name, chart in charts.items()},
        pictures=[(win, _embedded(file.read_bytes(), "jpeg")) for win, file in pictures],
    )
    write_text(folder / PAGE, page)
    write_text(folder / "report.md", plain.get_template("report.md.j2").render(**values))


def _worded(comparison: Comparison) -> dict[str, str]:
    """Return what page and text say alike, with what differs from comparison to comparison."""
    said = {"imgsz": comparison.settings.get("imgsz"), "base": comparison.baseline, "jobs": comparison.recipe.jobs}
    cost = WORDS["cost"] + (WORDS["jobs"] if comparison.recipe.jobs > 1 else "")
    return {**WORDS, "cost": cost.format(**said)}


def _embedded(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _score(value: float) -> str:
    return DASH if value < 0 else f"{value:.3f}"


def _interval(interval: Interval | None, margin: float) -> str:
    return DASH if interval is None else "{} [{}]".format(*figures(interval, margin))


def _size(value: float | None) -> str:
    return DASH if value is None else size(value) if value else "~ 0"


def _code(text: str) -> Markup:
    return Markup(in_line(text))  # which Markdown shows as it is


def _inline_code(text: str) -> Markup:
    return Markup("`" + in_line(text).replace("`", "'") + "`")


def _words(settings: dict[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in settings.items())


def _spread(comparison: Comparison) -> dict[str, str]:
    """Return AP of every arm as mean and standard deviation over seeds."""
    spread = {}
    for arm in comparison.arms:
        values = [run.metrics["AP"] for run in comparison.runs if run.arm == arm and run.metrics]
        mean = f"{np.mean(values):.3f}" if values else DASH
        spread[arm] = mean + (f" ± {size(float(np.std(values, ddof=1)))}" if len(values) > 1 else "")
    return spread


# Pictures ------------------------------------------------------------------------------------------------------------


def draw_wins(comparison: Comparison, samples: Sequence[Sample], folder: Path) -> list[tuple[Win, Path]]:
    """Draw the images that speak most for an arm or for the baseline: ground truth, baseline, arm, side by side.

    Args:
        comparison: What was found.
        samples: The scored images in the order of the ground truth.
        folder: The comparison's folder.

    Returns:
        The picture of every win.
    """
    _read.cache_clear()  # of a folder that was there before
    images, scored = [str(sample.image) for sample in samples], folder / comparison.recipe.split
    drawn = []
    for number, win in enumerate(comparison.wins, 1):
        contrast = next(c for c in comparison.contrasts if c.arm == win.arm and c.against == comparison.baseline)
        seed, at = contrast.seeds[0], images.index(win.image)
        panels = [("ground truth", _drawn(scored / win.arm / f"seed{seed}", at, "annotations"))]
        for arm in (comparison.baseline, win.arm):
            run = scored / arm / f"seed{seed}"
            panels.append((f"{short(arm)}, seed {seed}", _drawn(run, at, "predictions")))
        path = folder / "wins" / f"{number}-{win.arm}.jpg"
        with whole_file(path) as temporary:
            cv2.imwrite(str(temporary), np.hstack([_panel(samples[at], *panel) for panel in panels]))
        drawn.append((win, path))
    return drawn


@functools.lru_cache(maxsize=4)
def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _drawn(run: Path, position: int, name: str) -> list[tuple[list[float], int, str]]:
    """Return what the ground truth or the predictions of a run hold for one image: corners, class index and label."""
    truth = _read(run / "annotations.json")
    image = truth["images"][position]["id"]
    kinds = {category["id"]: (i, str(category["name"])) for i, category in enumerate(truth["categories"])}
    drawn = []
    for entry in truth["annotations"] if name == "annotations" else _read(run / f"{name}.json"):
        if entry["image_id"] == image and entry.get("score", 1) >= SHOWN_SCORE:
            (x, y, w, h), (kind, label) = entry["bbox"], kinds[entry["category_id"]]
            drawn.append(([x, y, x + w, y + h], kind, f"{label} {entry['score']:.2f}" if "score" in entry else label))
    return drawn


def _panel(sample: Sample, title: str, drawn: list[tuple[list[float], int, str]]) -> Any:
    image: Any = imread(str(sample.file))
    if image is None:  # a format that OpenCV does not read here
        image = np.full((sample.height, sample.width, 3), 128, np.uint8)
    scale = WIDTH / max(image.shape[:2])
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    labels = "".join(label for _, _, label in drawn)
    annotator = Annotator(image, line_width=1, font_size=10, example=labels)
    for box, kind, label in drawn:
        annotator.box_label(
            [v * WIDTH / max(sample.width, sample.height) for v in box], label, color=colors(kind, True)
        )
    right = WIDTH - image.shape[1] + 6
    picture = cv2.copyMakeBorder(annotator.result(), 0, 0, 0, right, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    strip = Image.new("RGB", (picture.shape[1], 28), "white")
    font = ImageFont.truetype(fonts.file(any_script=not title.isascii()), 14)
    ImageDraw.Draw(strip).text((4, 5), title, fill=(30, 30, 30), font=font)
    return np.vstack([np.asarray(strip), picture])
