"""Small datasets in COCO and Pascal VOC format for the tests."""

import json
from pathlib import Path

import cv2
import numpy as np

XML = (
    "<annotation><filename>any.jpg</filename><size><width>{w}</width><height>{h}</height></size>{objects}</annotation>"
)
OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"""


def picture(path: Path, width: int = 40, height: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def xml(path: Path, *objects: tuple, size: tuple[int, int] = (40, 20)) -> Path:
    """Write an annotation file; an object is its name, difficult, and the four corners."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(XML.format(w=size[0], h=size[1], objects="".join(OBJECT.format(*o) for o in objects)))
    return path


def voc(folder: Path) -> Path:
    """Write a dataset in the devkit's layout with two images a split."""
    for split, stems in {"train": ("a", "b"), "val": ("c", "d")}.items():
        for stem in stems:
            picture(folder / "JPEGImages" / f"{stem}.png")
            xml(folder / "Annotations" / f"{stem}.xml", ("zebra", 0, 1, 1, 20, 10), ("ant", 1, 11, 6, 30, 20))
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{s}\n" for s in reversed(stems)))
    return folder


def instances(path: Path, images: list, annotations: list, names=("cat", "dog"), first: int = 5) -> Path:
    """Write an instances file; an image is (id, file name), an annotation (image id, category id, bbox, more)."""
    content = {
        "info": {"year": 2026},
        "images": [{"id": i, "file_name": name, "width": 40, "height": 20, "licence": 7} for i, name in images],
        "annotations": [
            {"id": 100 + i, "image_id": image, "category_id": c, "bbox": box, "area": 3.5, "iscrowd": 0, **more}
            for i, (image, c, box, more) in enumerate(annotations)
        ],
        "categories": [{"id": first + 2 * i, "name": name} for i, name in enumerate(names)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(folder: Path) -> Path:
    """Write a COCO dataset: two images of one stem in different folders, a crowd, and categories 5 and 7."""
    for split in ("train2017", "val2017"):
        picture(folder / split / "one" / "a.png")
        picture(folder / split / "images" / "a.png")
        picture(folder / split / "b.png")
        instances(
            folder / "annotations" / f"instances_{split}.json",
            [(42, "one/a.png"), (7, "images/a.png"), (9, "b.png")],
            [
                (42, 5, [0, 0, 10, 10], {}),
                (42, 5, [0, 0, 10, 10], {}),
                (42, 7, [30, 10, 20, 20], {}),
                (7, 7, [4, 4, 8, 8], {}),
                (7, 5, [0, 0, 40, 20], {"iscrowd": 1}),
                (7, 5, [0, 0, 4, 4], {"ignore": 1}),
                (7, 5, [40, 0, 4, 4], {}),
            ],
        )
    return folder
