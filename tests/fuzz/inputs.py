"""One small valid input of each kind, and the command that reads it soonest."""

import json

import cv2
import numpy as np

MODEL = """nc: 2 # classes
scales: # [depth, width, max_channels]
  n: [0.5, 0.25, 64]
activation: nn.SiLU()
backbone:
  - [-1, 1, Conv, [16, 3, 2]] # 0
  - [-1, 1, Conv, [32, 3, 4]] # 1
  - [-1, 1, SpatialMHABlock, [2]] # 2
  - [-1, 2, C2f, [32, True]] # 3
head:
  - [[-1, 1], 1, Concat, [1]] # 4
  - [[4], 1, Detect, [nc]] # 5
"""
DATA = """path: .
train: images
val: [images]
nc: 2
names:
  0: ant
  1: zebra
"""
RECIPE = """name: r
data: d.yaml
arms:
  baseline: plain.yaml
  attention: {model: plain.yaml, at: 'layer:0', num_heads: 2, freeze_base: 1}
  control: {match: attention}
train: {epochs: 2, imgsz: 32, batch: 2, device: cpu, lr0: 0.01, optimizer: SGD}
seeds: [0, 1, 2]
jobs: 1
primary: attention
margin: 0.01
split: val
group: '(\\w)'
blocks: []
"""
TRACKER = """tracker_type: bytetrack
track_high_thresh: 0.25
track_low_thresh: 0.1
new_track_thresh: 0.25
track_buffer: 30
match_thresh: 0.8
fuse_score: True
"""
PLAIN = "nc: 2\nbackbone:\n  - [-1, 1, Conv, [32, 3, 8]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
LABELS = "0 0.5 0.5 0.25 0.25\n1 0.25 0.5 0.125 0.5\n"
POLYGONS = "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.2 0.2 0.4 0.2 0.4 0.4 0.2 0.4\n"
XML = """<?xml version="1.0"?>
<annotation><filename>a.png</filename><size><width>40</width><height>20</height></size>
<object><name>ant</name><difficult>0</difficult>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>
<object><name>zebra</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>
"""
INSTANCES = {
    "info": {"year": 2026},
    "images": [{"id": i, "file_name": f"{name}.png", "width": 40, "height": 20} for i, name in ((4, "a"), (9, "b"))],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 1, "bbox": [2, 3, 10, 8.5], "area": 85.0, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 2, "bbox": [0, 0, 40, 20], "area": 9, "iscrowd": 1, "ignore": 1},
    ],
    "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "zebra", "supercategory": "animal"}],
}
PREDICTIONS = [
    {"image_id": 4, "category_id": 1, "bbox": [2, 3, 10, 8], "score": 0.75},
    {"image_id": 9, "category_id": 2, "bbox": [0, 0, 4, 20], "score": 0.5},
]
NAMED = [
    {**PREDICTIONS[0], "file_name": "a.png", "category_name": "ant"},
    {**PREDICTIONS[1], "file_name": "b.png", "category_name": "zebra"},
]
SCORE = "val predictions={} plots=False"
# the file that is changed, and the command; the first word of a name tells what it is about
RARER = (  # those that are read much as another is, for make test-all
    *("model without", "polygons", "voc list", "voc classes", "annotations in groups", "predictions by name"),
    *("images", "table"),
)
COMMANDS = {
    "model": ("m.yaml", "insert model=m.yaml at=layer:1 out=out.yaml"),
    "model without": ("m.yaml", "remove model=m.yaml out=out.yaml"),
    "data": ("d.yaml", SCORE.format("n.json") + " data=d.yaml"),
    "labels": ("labels/a.txt", SCORE.format("n.json") + " data=d.yaml"),
    "polygons": ("labels/b.txt", SCORE.format("n.json") + " data=d.yaml"),
    "voc": ("voc/Annotations/a.xml", SCORE.format("n.json") + " data=voc"),
    "voc list": ("voc/ImageSets/Main/val.txt", SCORE.format("n.json") + " data=voc"),
    "voc classes": ("voc/labels.txt", SCORE.format("n.json") + " data=voc"),
    "coco": ("coco/valid/_annotations.coco.json", SCORE.format("p.json") + " data=coco"),
    "annotations": ("t.json", SCORE.format("p.json") + " annotations=t.json"),
    "annotations in groups": ("t.json", SCORE.format("p.json") + " annotations=t.json group=g.csv"),
    "predictions": ("p.json", SCORE.format("p.json") + " annotations=t.json group=image"),
    "predictions by name": ("n.json", SCORE.format("n.json") + " data=d.yaml"),
    "groups": ("g.csv", SCORE.format("n.json") + " data=d.yaml group=g.csv"),
    "images": ("i.txt", SCORE.format("n.json") + " data=i.yaml"),
    "list": ("l.txt", "predict source=l.txt imgsz=32 save=False"),
    "table": ("l.csv", "predict source=l.csv imgsz=32 save=False"),
    "tracker": ("tracker.yaml", "track source=l.txt imgsz=32 conf=0.001 save=False tracker=tracker.yaml"),
    "recipe": ("r.yaml", "compare recipe=r.yaml conclude=True"),
    "runs": ("runs.yaml", "compare predictions=runs.yaml data=d.yaml"),
}


def inputs() -> dict[str, bytes]:
    """Return the content of all files by name."""
    _, encoded = cv2.imencode(".png", np.full((20, 40, 3), 90, np.uint8))
    picture = encoded.tobytes()
    pictures = ["images/{}.png", "voc/JPEGImages/{}.png", "coco/train/{}.png", "coco/valid/{}.png"]
    texts = {
        "m.yaml": MODEL,
        "plain.yaml": PLAIN,
        "d.yaml": DATA,
        "i.yaml": "train: images\nval: i.txt\nnames: [ant, zebra]\n",
        "i.txt": "./images/a.png\n./images/b.png\n",
        "labels/a.txt": LABELS,
        "labels/b.txt": POLYGONS,
        **{f"voc/Annotations/{name}.xml": XML for name in "ab"},
        **{f"voc/ImageSets/Main/{split}.txt": "a\nb\n" for split in ("train", "val")},
        "voc/labels.txt": "ant\nzebra\n",
        **{f"coco/{split}/_annotations.coco.json": json.dumps(INSTANCES) for split in ("train", "valid")},
        "t.json": json.dumps(INSTANCES),
        "p.json": json.dumps(PREDICTIONS),
        "n.json": json.dumps(NAMED),
        "g.csv": "image,group\na.png,one\nb.png,two\n",
        "l.txt": "# pictures\nimages/a.png\nimages/*.png\n",
        "l.csv": "path;label\nimages/a.png;1\nimages/b.png;0\n",
        "tracker.yaml": TRACKER,
        "r.yaml": RECIPE,
        "one.json": json.dumps(NAMED[:1]),
        "runs.yaml": "baseline: {0: n.json}\nattention:\n  0: one.json\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    return files | {place.format(name): picture for place in pictures for name in "ab"}
