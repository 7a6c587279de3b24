"""The commands of README and the site, run page by page in a folder that has the files which they name.

Words are replaced where they would take hours or where the small model at hand has other rows. A command that cannot be
run here is on the list `NOT_RUN`, with the reason; one that is neither run nor listed fails.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from data.formats import xml
from test_docs import BLOCKS_OF_CODE, PAGES, PROJECT
from ultralytics.utils import ROOT as ULTRALYTICS

import yolo_mha
from yolo_mha.data.beacons import generate
from yolo_mha.paths import shipped

NOT_RUN = {  # by a regular expression that finds them
    r"^pip install": "needs the network",
    r"^make ": "the tests themselves",
    r"^ray start|engine=ray": "a cluster; see tests/cluster/test_ray.py",
    r"^yolo-mha explore": "serves until Ctrl-C; see tests/inspection/test_explorer.py",
    r"^jupyter ": "serves until Ctrl-C; see tests/test_notebooks.py",
    r"^yolo-mha train resume=": "a run that was interrupted; see tests/engine/test_train_stops.py",
}
INSTEAD = {  # of a word
    **{f"epochs={n}": "epochs=1" for n in (10, 50, 100)},
    "imgsz=640": "imgsz=64",
    "batch=16": "batch=8",
    "seeds=0,1,2": "seeds=0",
    "rounds=100": "rounds=3",
    "sizes=320,640": "sizes=192",
    "batches=1,8": "batches=1,2",
    "slice=640": "slice=96",
    "layer=10": "layer=5",
    "head=0,3": "head=0,1",
    "heads=10:0,10:3": "heads=5:0",  # of the demo's model
    "box=120,40,300,210": "box=20,20,60,60",
}
BESIDE = {  # the words that are there
    "train": ("imgsz=64", "batch=8", "plots=False", "device=cpu"),
    "compare": ("imgsz=64", "batch=8", "device=cpu"),
    "doctor": ("device=cpu",),
    "benchmark": ("rounds=3", "sizes=192"),
    "explain data": ("detections=4", "drise=1"),
}


def _commands(page: Path) -> list[str]:
    blocks = BLOCKS_OF_CODE.findall(page.read_text(encoding="utf-8"))
    lines = [line for language, code in blocks if language in ("bash", "sh") for line in code.splitlines()]
    return [re.sub(r"\s+#\s.*", "", line).strip() for line in lines if line.strip()]


def _is_run(command: str) -> bool:
    return not any(re.search(pattern, command) for pattern in NOT_RUN)


PAGES_THAT_RUN = [page for page in PAGES if any(map(_is_run, _commands(page)))]


def test_not_run__lists_no_more_than_there_is():
    commands = [command for page in PAGES for command in _commands(page)]
    assert all(any(re.search(pattern, command) for command in commands) for pattern in NOT_RUN)
    words = {word for command in commands for word in command.split()}
    assert set(INSTEAD) <= words


@pytest.fixture(scope="session")
def shelf(tmp_path_factory, tiny) -> Path:
    """A folder with every file that a page names."""
    folder = tmp_path_factory.mktemp("shelf")
    _write_data(folder)
    narrow = yaml.safe_load((ULTRALYTICS / "cfg" / "models" / "v8" / "yolov8.yaml").read_text(encoding="utf-8"))
    narrow["scales"] = {"n": [0.33, 0.125, 1024]}
    (folder / "yolov8n-narrow.yaml").write_text(yaml.safe_dump(narrow))
    for name in ("yolo11n.pt", "yolov8n.pt", "yolov8s.pt"):  # trained for none of these pictures in any case
        yolo_mha.YOLO(folder / "yolov8n-narrow.yaml").save(folder / name)
    demo = shipped("weights") / "demo-mha.pt"
    shutil.copy(demo, folder / "best.pt")
    yolo_mha.export(folder / "best.pt", imgsz=64)
    for arm, name in {"baseline": "baseline", "attention": "mha"}.items():
        weights = folder / "runs" / arm / "seed0" / "weights"
        weights.mkdir(parents=True)
        shutil.copy(shipped("weights") / f"demo-{name}.pt", weights / "last.pt")
    result = yolo_mha.val(demo, folder / "my.yaml", imgsz=64, device="cpu", project=str(folder), name="scored")
    shutil.copy(result.predictions, folder / "results.json")
    shutil.copy(result.annotations, folder / "instances.json")
    for arm in ("plain", "attention"):
        (folder / "predictions").mkdir(exist_ok=True)
        found = json.loads(Path(result.predictions).read_text(encoding="utf-8"))
        (folder / "predictions" / f"{arm}-0.json").write_text(json.dumps(found[arm == "plain" :]))  # no two alike
    arms = {"baseline": "demo-baseline.yaml", "attention": {"model": "demo-baseline.yaml", "at": "neck"}}
    recipe = {"data": "my.yaml", "arms": arms, "seeds": [3], "train": tiny}
    (folder / "my-recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    shutil.copy(shipped("cfg") / "models" / "demo-baseline.yaml", folder / "my-model.yaml")
    own_block = (PROJECT / "docs" / "how-to" / "own-block.md").read_text(encoding="utf-8")
    (folder / "my_module.py").write_text(dict(BLOCKS_OF_CODE.findall(own_block))["python"])
    return folder


def _write_data(folder: Path) -> None:
    """Write the same pictures in each of the formats, and a video of them."""
    data = generate(folder / "beacons", train=16, val=12)
    content = yaml.safe_load(data.read_text(encoding="utf-8"))
    names = dict(enumerate(content["names"])) if isinstance(content["names"], list) else content["names"]
    pictures = {split: sorted((data.parent / "images" / split).iterdir()) for split in ("train", "val")}
    for i, picture in enumerate(picture for own in pictures.values() for picture in own):  # each of a video of its own
        label = picture.parents[2] / "labels" / picture.parent.name / f"{picture.stem}.txt"
        label.rename(label.with_stem(f"video{i}_1"))
        picture.rename(picture.with_stem(f"video{i}_1"))
    shutil.copy(data, folder / "my.yaml")
    (folder / "my.yaml").write_text(yaml.safe_dump({**content, "path": str(data.parent)}))
    voc, truth = folder / "VOCdevkit" / "VOC2007", {}
    for split in ("train", "val"):
        images, boxes = [], []
        for picture in sorted((data.parent / "images" / split).iterdir()):
            height, width = cv2.imread(str(picture)).shape[:2]
            images.append({"id": len(images), "file_name": picture.name, "width": width, "height": height})
            label = data.parent / "labels" / split / f"{picture.stem}.txt"
            objects = []
            for line in label.read_text(encoding="utf-8").splitlines():
                kind, x, y, w, h = map(float, line.split())
                left, top, w, h = (x - w / 2) * width, (y - h / 2) * height, w * width, h * height
                box = {"image_id": len(images) - 1, "category_id": int(kind), "bbox": [left, top, w, h], "area": w * h}
                boxes.append({"id": len(boxes) + 1, "iscrowd": 0, **box})
                objects.append((names[int(kind)], 0, *(round(v) for v in (left + 1, top + 1, left + w, top + h))))
            xml(voc / "Annotations" / f"{picture.stem}.xml", *objects, size=(width, height))
            for place in (voc / "JPEGImages", folder / "coco" / split, folder / "photos"):
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, place)
            shutil.copy(label, folder / "photos")
        truth = {"images": images, "annotations": boxes, "categories": [{"id": i, "name": n} for i, n in names.items()]}
        file = folder / "coco" / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(truth))
        (voc / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        for part in (split, "test"):
            lines = "".join(f"{Path(image['file_name']).stem}\n" for image in images)
            (voc / "ImageSets" / "Main" / f"{part}.txt").write_text(lines)
    (folder / "photos" / "classes.txt").write_text("".join(f"{name}\n" for name in names.values()))
    image = cv2.imread(str(picture))
    for name in ("street.jpg", "image.jpg", "aerial.tif"):
        cv2.imwrite(str(folder / name), image)
    video = cv2.VideoWriter(str(folder / "street.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, image.shape[1::-1])
    for _ in range(6):
        video.write(image)
    video.release()


def _words(command: str, folder: Path) -> list[str]:
    """Return the words after ``python``, those that take long replaced."""
    program, *words = shlex.split(command.replace("/shared/", f"{folder}/shared/"))
    if program == "python":
        return words
    name, *words = (INSTEAD.get(word, word) for word in words)
    given = {word.partition("=")[0] for word in words}
    if name == "compare" and ("=" not in words[0] or given & {"models", "predictions"}):
        return ["-m", "yolo_mha", name, *words]  # what is trained says the recipe, or nothing is
    kind = "explain data" if name == "explain" and "data" in given else name
    more = (word for word in BESIDE.get(kind, ()) if word.partition("=")[0] not in given)
    return ["-m", "yolo_mha", name, *words, *more]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=lambda page: page.stem)
def test_commands__of_a_page_run_one_after_the_other(page, shelf, tmp_path):
    shutil.copytree(shelf, tmp_path, dirs_exist_ok=True, symlinks=True)
    for command in filter(_is_run, _commands(page)):
        done = subprocess.run([sys.executable, *_words(command, tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
