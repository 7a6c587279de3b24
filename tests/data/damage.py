"""Kinds of damage to an image and its labels, and what is to be found in each."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image

from yolo_mha.data import faults

SIZE = (64, 48)
GOOD = "0 0.5 0.5 0.25 0.5\n"


class Kind(NamedTuple):
    """A kind of damage: what it makes of image and label, the reasons that are found, and whether it can be repaired.

    ``boxes`` are what is left of the labels where the image is used.
    """

    suffix: str
    damage: Callable[[Path, Path], object]
    reasons: tuple[str, ...] = ()
    repaired: bool = False
    boxes: int = 1


def pixels(dtype: type = np.uint8, high: float = 256, size: tuple[int, int] = SIZE) -> np.ndarray:
    return (np.random.default_rng(0).random((size[1], size[0], 3)) * high).astype(dtype)


def written(suffix: str, content: np.ndarray | None = None) -> Callable[[Path, Path], object]:
    picture = pixels() if content is None else content
    return lambda image, label: image.write_bytes(cv2.imencode(suffix, picture)[1].tobytes())


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], object]:
    return lambda image, label: image.write_bytes(change(image.read_bytes()))


def labelled(text: str | bytes) -> Callable[[Path, Path], object]:
    return lambda image, label: label.write_bytes(text if isinstance(text, bytes) else text.encode())


def flipped(content: bytes) -> bytes:
    """Change a byte of the picture, not of the head."""
    at = content.index(b"IDAT") + 20
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def both(image: Path, label: Path) -> None:
    image.write_bytes(b"no picture")
    label.write_text(MIXED)


def as_gif(image: Path, label: Path) -> None:
    Image.fromarray(pixels()).save(image, "GIF")


def as_cmyk(image: Path, label: Path) -> None:
    Image.fromarray(pixels()).convert("CMYK").save(image, "JPEG")


MIXED = "0 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.3 0.1 0.3 0.3\n"
POLYGON = "1 0.1 0.1 0.3 0.1 0.3 0.3\n"
KINDS = {
    "good": Kind(".jpg", labelled(GOOD)),
    # images that are not trained on
    "cut off": Kind(".jpg", changed(lambda b: b[: len(b) // 2]), (faults.CUT_OFF,)),
    "no end marker": Kind(".jpg", changed(lambda b: b[:-2]), (faults.CUT_OFF,)),
    "head alone": Kind(".jpg", changed(lambda b: b[:20]), (faults.UNREADABLE,)),
    "empty image": Kind(".jpg", changed(lambda b: b""), (faults.UNREADABLE,)),
    "text": Kind(".png", changed(lambda b: b"<html>not found</html>"), (faults.UNREADABLE,)),
    "zeros": Kind(".jpg", changed(lambda b: bytes(5000)), (faults.UNREADABLE,)),
    "png checksum": Kind(".png", changed(flipped), (faults.UNREADABLE,)),
    "png cut off": Kind(".png", changed(lambda b: b[:-2000]), (faults.UNREADABLE,)),
    "webp cut off": Kind(".webp", changed(lambda b: b[: len(b) // 2]), (faults.UNREADABLE,)),
    "bmp cut off": Kind(".bmp", changed(lambda b: b[:40]), (faults.UNREADABLE,)),
    "folder": Kind(".jpg", lambda i, _: (i.unlink(), i.mkdir()), (faults.UNREADABLE,)),
    "broken link": Kind(".jpg", lambda i, _: (i.unlink(), i.symlink_to("nowhere.jpg")), (faults.MISSING,)),
    "9 high": Kind(".png", written(".png", pixels(size=(64, 9))), (faults.TOO_SMALL,)),
    "one pixel": Kind(".jpg", written(".jpg", pixels(size=(1, 1))), (faults.TOO_SMALL,)),
    # images that can be repaired
    "fractions": Kind(".tif", written(".tif", pixels(np.float32, 1)), (faults.OTHER_VALUES,), True),
    "floats": Kind(".tif", written(".tif", pixels(np.float32, 5000)), (faults.OTHER_VALUES,), True),
    "doubles": Kind(".tiff", written(".tiff", pixels(np.float64, 1)), (faults.OTHER_VALUES,), True),
    "gray floats": Kind(".tif", written(".tif", pixels(np.float32, 1)[..., 0]), (faults.OTHER_VALUES,), True),
    "32 bits": Kind(".tif", written(".tif", pixels(np.int32, 90000)), (faults.OTHER_VALUES,), True),
    "signed": Kind(".tif", written(".tif", pixels(np.int16, 3000) - 1000), (faults.OTHER_VALUES,), True),
    "huge": Kind(".jpg", written(".jpg", pixels(size=(640, 480))), (faults.TOO_LARGE,), True),
    "gif as jpg": Kind(".jpg", as_gif, (faults.OTHER_FORMAT,), True),
    # images that are fine
    "more behind the end": Kind(".jpg", changed(lambda b: b + b"more")),
    "16 bits": Kind(".png", written(".png", pixels(np.uint16, 65535))),
    "16 bits tiff": Kind(".tif", written(".tif", pixels(np.uint16, 65535))),
    "gray": Kind(".jpg", written(".jpg", pixels()[..., 0])),
    "cmyk": Kind(".jpg", as_cmyk),
    "png as jpg": Kind(".jpg", written(".png")),
    # labels that cannot be read
    "word": Kind(".jpg", labelled("cat 0.5 0.5 0.1 0.1\n"), (faults.BAD_LABELS,)),
    "4 columns": Kind(".jpg", labelled("0 0.5 0.5 0.1\n"), (faults.BAD_LABELS,)),
    "6 columns": Kind(".jpg", labelled("0 0.5 0.5 0.1 0.1 0.9\n"), (faults.BAD_LABELS,)),
    "commas": Kind(".jpg", labelled("0,0.5,0.5,0.1,0.1\n"), (faults.BAD_LABELS,)),
    "class too high": Kind(".jpg", labelled("2 0.5 0.5 0.1 0.1\n"), (faults.BAD_LABELS,)),
    "class below 0": Kind(".jpg", labelled("-1 0.5 0.5 0.1 0.1\n"), (faults.BAD_LABELS,)),
    "half a class": Kind(".jpg", labelled("0.5 0.5 0.5 0.1 0.1\n"), (faults.BAD_LABELS,)),
    "nan": Kind(".jpg", labelled("0 0.5 nan 0.1 0.1\n"), (faults.BAD_LABELS,)),
    "inf": Kind(".jpg", labelled("0 0.5 inf 0.1 0.1\n"), (faults.BAD_LABELS,)),
    "pixels": Kind(".jpg", labelled("0 32 24 10 10\n"), (faults.BAD_LABELS,)),
    "negative size": Kind(".jpg", labelled("0 0.5 0.5 -0.1 0.1\n"), (faults.BAD_LABELS,)),
    "half a point": Kind(".jpg", labelled("0 0.1 0.1 0.3 0.1 0.3 0.3 0.4\n"), (faults.BAD_LABELS,)),
    "binary": Kind(".jpg", labelled(bytes(range(256))), (faults.BAD_LABELS,)),
    "utf-16": Kind(".jpg", labelled(GOOD.encode("utf-16")), (faults.BAD_LABELS,)),
    # labels that can be repaired
    "mixed": Kind(".jpg", labelled(MIXED), (faults.MIXED,), True, 2),
    "zero width": Kind(".jpg", labelled(GOOD + "1 0.5 0.5 0 0.1\n"), (faults.NO_SIZE,), True),
    "zero height": Kind(".jpg", labelled("1 0.5 0.5 0.1 0\n"), (faults.NO_SIZE,), True, 0),
    "line": Kind(".jpg", labelled("1 0.1 0.1 0.3 0.1 0.2 0.1\n"), (faults.NO_SIZE,), True, 0),
    "centre outside": Kind(".jpg", labelled("0 1.05 0.5 0.2 0.1\n"), (faults.OUTSIDE,), True),
    "reaches outside": Kind(".jpg", labelled("0 0.95 0.5 0.3 0.1\n"), (faults.OUTSIDE,), True),
    "polygon outside": Kind(".jpg", labelled("1 -0.2 0.1 0.3 0.1 0.3 0.3\n"), (faults.OUTSIDE,), True),
    "wholly outside": Kind(".jpg", labelled("0 1.5 0.5 0.1 0.1\n"), (faults.OUTSIDE, faults.NO_SIZE), True, 0),
    "mixed and outside": Kind(".jpg", labelled(MIXED + "0 1 1 0.2 0.2\n"), (faults.MIXED, faults.OUTSIDE), True, 3),
    # both
    "no picture, mixed": Kind(".jpg", both, (faults.UNREADABLE, faults.MIXED)),
    "floats, mixed": Kind(
        ".tif",
        lambda i, t: (written(".tif", pixels(np.float32, 1))(i, t), labelled(MIXED)(i, t)),
        (faults.OTHER_VALUES, faults.MIXED),
        True,
        2,
    ),
    # labels that are fine
    "slightly outside": Kind(".jpg", labelled("0 0.9 0.5 0.21 0.1\n")),
    "twice": Kind(".jpg", labelled(GOOD * 2)),
    "no labels": Kind(".jpg", lambda i, t: t.unlink(), boxes=0),
    "empty labels": Kind(".jpg", labelled(""), boxes=0),
    "byte order mark": Kind(".jpg", labelled(b"\xef\xbb\xbf" + GOOD.encode())),
    "polygons": Kind(".jpg", labelled(POLYGON)),
}


def damaged(folder: Path, kinds: dict[str, Kind] = KINDS, times: int = 1, good: int = 0) -> Path:
    """Write a dataset with images of each kind, and good ones; return its YAML."""
    names = [(name, f"{name} {i}") for name in kinds for i in range(times)]
    names += [("good", f"{i}") for i in range(good)]
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for name, stem in names:
        image, label = folder / "images" / f"{stem}{KINDS[name].suffix}", folder / "labels" / f"{stem}.txt"
        written(image.suffix)(image, label)
        label.write_text(GOOD)
        KINDS[name].damage(image, label)
    content = {"train": "images", "val": "images", "names": ["a", "b"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"
