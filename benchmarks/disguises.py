"""Labelled images in the formats and folders that people have them in, and what it takes to train on each.

``python benchmarks/disguises.py folder...`` takes datasets that `train` knows, writes a part of each in every disguise,
calls ``yolo-mha data`` once, trains one epoch on the answer, and prints a table. Nothing is done by hand in between.
The column "commands" says whether `train` takes the folder itself, with all images, or needs that one command first.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import yolo_mha
from yolo_mha.data.dataset import image_files, load_dataset, read_split

ROBOFLOW = {"train": "train", "val": "valid", "test": "test"}
LABELME = {"version": "5.4.1", "flags": {}, "imageData": None}


class Image(NamedTuple):
    """An image: its file, split, width and height, and name and corners x1, y1, x2, y2 in pixels of each object."""

    file: Path
    split: str
    width: int
    height: int
    objects: list[tuple[str, float, float, float, float]]


def read(data: Path, most: int | None = None) -> list[Image]:
    """Read the first images of each split of a dataset."""
    dataset = load_dataset(data)
    images = []
    for split in dataset.splits:
        order = {path: i for i, path in enumerate(image_files(dataset, split))}
        for s in islice(sorted(read_split(dataset, split), key=lambda s: order[s.image]), most):
            found = [(dataset.names[int(c)], *map(float, b)) for c, b in zip(s.classes, s.boxes, strict=True)]
            images.append(Image(s.image.resolve(), split, s.width, s.height, found))
    return images


def names_of(images: list[Image]) -> list[str]:
    """Return all class names, sorted."""
    return sorted({o[0] for image in images for o in image.objects})


def copy(image: Image, folder: Path) -> Path:
    """Copy an image into a folder, by a name that no other split has."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / image.file.name
    shutil.copyfile(image.file, path)
    return path


def write(path: Path, text: str) -> None:
    """Write a text into a file whose folder may be new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rows(image: Image, names: list[str]) -> str:
    """Return an image's labels as YOLO has them."""
    lines = []
    for name, x1, y1, x2, y2 in image.objects:
        centre = (x1 + x2) / 2 / image.width, (y1 + y2) / 2 / image.height
        size = (x2 - x1) / image.width, (y2 - y1) / image.height
        lines.append(" ".join([str(names.index(name)), *(f"{v:.8f}" for v in (*centre, *size))]))
    return "\n".join(lines)


def xml(image: Image) -> str:
    """Return an image's labels as Pascal VOC has them, corners from 1 on and the last pixel included."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in image.objects
    )
    size = f"<size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{image.file.name}</filename>{size}{objects}</annotation>"


def coco(images: list[Image], names: list[str]) -> str:
    """Return labels as COCO has them, with categories from 1 on."""
    found = [
        {"image_id": i, "category_id": names.index(n) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for i, image in enumerate(images)
        for n, x1, y1, x2, y2 in image.objects
    ]
    content = {
        "images": [
            {"id": i, "file_name": m.file.name, "width": m.width, "height": m.height} for i, m in enumerate(images)
        ],
        "annotations": [{"id": i, "area": a["bbox"][2] * a["bbox"][3], **a} for i, a in enumerate(found, 1)],
        "categories": [{"id": i, "name": n} for i, n in enumerate(names, 1)],
    }
    return json.dumps(content)


def yolo_roboflow(images: list[Image], out: Path) -> None:
    """train/images and train/labels, and a data.yaml whose paths begin one folder too high."""
    names = names_of(images)
    for image in images:
        copy(image, out / ROBOFLOW[image.split] / "images")
        write(out / ROBOFLOW[image.split] / "labels" / f"{image.file.stem}.txt", rows(image, names))
    splits = "".join(f"{s}: ../{ROBOFLOW[s]}/images\n" for s in dict.fromkeys(i.split for i in images))
    write(out / "data.yaml", f"{splits}nc: {len(names)}\nnames: {json.dumps(names)}\n")


def yolo_cvat(images: list[Image], out: Path) -> None:
    """CVAT's YOLO 1.1: obj_train_data with labels beside the images, obj.names, obj.data and train.txt."""
    names = names_of(images)
    for image in images:
        copy(image, out / "obj_train_data")
        write(out / "obj_train_data" / f"{image.file.stem}.txt", rows(image, names))
    write(out / "obj.names", "\n".join(names))
    write(out / "obj.data", f"classes = {len(names)}\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(out / "train.txt", "".join(f"data/obj_train_data/{image.file.name}\n" for image in images))


def yolo_annots(images: list[Image], out: Path) -> None:
    """images/ and annots/*.txt with classes.txt, no split."""
    names = names_of(images)
    for image in images:
        copy(image, out / "images")
        write(out / "annots" / f"{image.file.stem}.txt", rows(image, names))
    write(out / "annots" / "classes.txt", "\n".join(names))


def coco_roboflow(images: list[Image], out: Path) -> None:
    """_annotations.coco.json beside the images of each split."""
    names = names_of(images)
    for split in dict.fromkeys(i.split for i in images):
        part = [i for i in images if i.split == split]
        for image in part:
            copy(image, out / ROBOFLOW[split])
        write(out / ROBOFLOW[split] / "_annotations.coco.json", coco(part, names))


def coco_cvat(images: list[Image], out: Path) -> None:
    """annotations/instances_default.json and images/, no split."""
    for image in images:
        copy(image, out / "images")
    write(out / "annotations" / "instances_default.json", coco(images, names_of(images)))


def coco_own_names(images: list[Image], out: Path) -> None:
    """annotations/train.json and annotations/val.json, all images in one folder."""
    for split in dict.fromkeys(i.split for i in images):
        part = [i for i in images if i.split == split]
        for image in part:
            copy(image, out / "imgs")
        write(out / "annotations" / f"{split}.json", coco(part, names_of(images)))


def voc_annots(images: list[Image], out: Path) -> None:
    """images/ and annots/*.xml, no split."""
    for image in images:
        copy(image, out / "images")
        write(out / "annots" / f"{image.file.stem}.xml", xml(image))


def voc_annotations(images: list[Image], out: Path) -> None:
    """A folder of each split with images/ and annotations/*.xml."""
    for image in images:
        copy(image, out / image.split / "images")
        write(out / image.split / "annotations" / f"{image.file.stem}.xml", xml(image))


def voc_beside(images: list[Image], out: Path) -> None:
    """XML beside the images in one folder."""
    for image in images:
        copy(image, out)
        write(out / f"{image.file.stem}.xml", xml(image))


def voc_cvat(images: list[Image], out: Path) -> None:
    """CVAT's PASCAL VOC 1.1: the devkit's folders with ImageSets/Main/default.txt and labelmap.txt."""
    for image in images:
        copy(image, out / "JPEGImages")
        write(out / "Annotations" / f"{image.file.stem}.xml", xml(image))
    write(out / "ImageSets" / "Main" / "default.txt", "".join(f"{i.file.stem}\n" for i in images))
    write(out / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(f"{n}:::\n" for n in names_of(images)))


def cvat_images(images: list[Image], out: Path) -> None:
    """CVAT for images 1.1: annotations.xml and images/."""
    labels = "".join(f"<label><name>{name}</name></label>" for name in names_of(images))
    entries = ""
    for number, image in enumerate(images):
        copy(image, out / "images")
        boxes = "".join(
            f'<box label="{name}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>'
            for name, x1, y1, x2, y2 in image.objects
        )
        size = f'width="{image.width}" height="{image.height}"'
        entries += f'<image id="{number}" name="{image.file.name}" {size}>{boxes}</image>'
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    write(out / "annotations.xml", f"{head}<meta><task><labels>{labels}</labels></task></meta>{entries}</annotations>")


def table(path: Path, lines: list[list[object]]) -> None:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def csv_headings(images: list[Image], out: Path) -> None:
    """labels.csv with filename,width,height,class,xmin,ymin,xmax,ymax, images in images/, no split."""
    lines: list[list[object]] = [["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]]
    for image in images:
        copy(image, out / "images")
        lines += [[image.file.name, image.width, image.height, name, *box] for name, *box in image.objects]
    table(out / "labels.csv", lines)


def csv_plain(images: list[Image], out: Path) -> None:
    """Without a heading path,x1,y1,x2,y2,class: train.csv and val.csv, and classes.csv."""
    for split in dict.fromkeys(i.split for i in images):
        lines: list[list[object]] = []
        for image in (i for i in images if i.split == split):
            copy(image, out / "img")
            lines += [[f"img/{image.file.name}", *box, name] for name, *box in image.objects]
            lines += [[f"img/{image.file.name}", "", "", "", "", ""]] if not image.objects else []
        table(out / f"{split}.csv", lines)
    table(out / "classes.csv", [[name, i] for i, name in enumerate(names_of(images))])


def csv_open_images(images: list[Image], out: Path) -> None:
    """Open Images: codes of classes, corners as fractions, file names without suffix."""
    names = names_of(images)
    lines: list[list[object]] = [["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"]]
    lines[0].append("IsGroupOf")
    for image in images:
        copy(image, out / "images")
        for name, x1, y1, x2, y2 in image.objects:
            box = x1 / image.width, x2 / image.width, y1 / image.height, y2 / image.height
            lines.append([image.file.stem, "xclick", f"/m/{names.index(name):04d}", 1, *box, 0])
    table(out / "annotations-bbox.csv", lines)
    table(out / "class-descriptions-boxable.csv", [[f"/m/{i:04d}", name] for i, name in enumerate(names)])


def labelme_beside(images: list[Image], out: Path) -> None:
    """LabelMe's JSON beside each image, half of the objects as polygons."""
    for image in images:
        copy(image, out)
        shapes = []
        for number, (name, x1, y1, x2, y2) in enumerate(image.objects):
            corners = [[x1, y1], [x2, y2]] if number % 2 else [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
            kind = "rectangle" if number % 2 else "polygon"
            shapes.append({"label": name, "points": corners, "shape_type": kind, "group_id": None, "flags": {}})
        size = {"imagePath": image.file.name, "imageHeight": image.height, "imageWidth": image.width}
        write(out / f"{image.file.stem}.json", json.dumps({**LABELME, "shapes": shapes, **size}))


def ndjson(images: list[Image], out: Path) -> None:
    """Ultralytics NDJSON with images beside it in folders of the splits."""
    names = names_of(images)
    lines = [{"type": "dataset", "task": "detect", "class_names": {str(i): n for i, n in enumerate(names)}}]
    for image in images:
        copy(image, out / "images" / image.split)
        boxes = [[float(v) for v in row.split()] for row in rows(image, names).splitlines()]
        entry = {"type": "image", "file": image.file.name, "width": image.width, "height": image.height}
        lines.append({**entry, "split": image.split, "annotations": {"boxes": [[int(b[0]), *b[1:]] for b in boxes]}})
    write(out / "dataset.ndjson", "\n".join(map(json.dumps, lines)))


Writer = Callable[[list[Image], Path], None]
WRITERS: list[Writer] = [yolo_roboflow, yolo_cvat, yolo_annots, coco_roboflow, coco_cvat, coco_own_names, voc_annots]
WRITERS += [voc_annotations, voc_beside, voc_cvat, cvat_images, csv_headings, csv_plain, csv_open_images]
DISGUISES = {writer.__name__: writer for writer in [*WRITERS, labelme_beside, ndjson]}


def is_taken(source: Path, count: int) -> bool:
    """Say whether `train` takes a folder as it is, with all of its images."""
    try:
        dataset = load_dataset(source)
        return sum(len(image_files(dataset, split)) for split in dataset.splits) == count
    except yolo_mha.YoloMHAError:
        return False


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=24, help="images of each split")
    given = parser.parse_args()
    print("| dataset | written as | recognised as | images | objects | split | commands | epoch |")
    print("|---|---|---|---|---|---|---|---|")
    settings = {"epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "workers": 0, "val": False}
    for data in given.datasets:
        images = read(data, given.images)
        for name, disguise in DISGUISES.items():
            with tempfile.TemporaryDirectory() as folder:
                disguise(images, Path(folder) / "source")
                found = yolo_mha.prepare_data(Path(folder) / "source", Path(folder) / "out")
                run = yolo_mha.train("yolo11n.yaml", found.data, project=folder, **settings)
                counts = [sum(getattr(s, key) for s in found.splits.values()) for key in ("images", "objects")]
                wanted = [len(images), sum(len(i.objects) for i in images)]
                same = " ".join(f"{a} of {b} |" for a, b in zip(counts, wanted, strict=True))
                split = "/".join(str(s.images) for s in found.splits.values())
                done = "done" if Path(run.last).is_file() else "failed"
                made = "new, " if found.proposed else ""
                commands = int(not is_taken(Path(folder) / "source", len(images)))
                cells = f"{data.name} | {name} | {found.format} | {same} {made}{split} | {commands} | {done}"
                print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
