import importlib.util
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.data.dataset import SPLITS, image_files, load_dataset, read_split
from yolo_mha.errors import ConfigError, DataError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "disguises.py"
_spec = importlib.util.spec_from_file_location("disguises", SCRIPT)
disguises = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(disguises)
WITH_SPLIT = {"yolo_roboflow", "coco_roboflow", "coco_own_names", "voc_annotations", "csv_plain", "ndjson"}


def noise(path: Path, seed: int, size: tuple[int, int] = (60, 80)) -> Path:
    """Write a picture that looks like no other: coarse noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return path


def yolo(folder: Path, count: int = 12, split: str = "") -> Path:
    """Write a YOLO dataset with classes 0 and 1 in turn, without a data YAML."""
    for i in range(count):
        noise(folder / "images" / split / f"{split}{i:02d}.png", seed=1000 * len(split) + i)
        label = folder / "labels" / split / f"{split}{i:02d}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"{i % 2} 0.5 0.5 0.25 0.5\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def objects(data: Path) -> dict[str, list]:
    """Class names and corners of every image of a dataset, by the image's stem."""
    dataset = load_dataset(data)
    return {
        s.image.stem: sorted((dataset.names[int(c)], *np.round(b, 1)) for c, b in zip(s.classes, s.boxes, strict=True))
        for split in dataset.splits
        for s in read_split(dataset, split)
    }


@pytest.fixture(scope="module")
def images(beacons) -> list:
    return [i._replace(split=i.split) for i in disguises.read(beacons, 6)]


@pytest.fixture
def disguised(images, tmp_path):
    """A function that writes the dataset in a disguise, with a name of its own for each image."""
    for image in images:
        shutil.copyfile(image.file, tmp_path / f"{image.split}_{image.file.name}")
    named = [i._replace(file=tmp_path / f"{i.split}_{i.file.name}") for i in images]

    def write(name: str) -> Path:
        disguises.DISGUISES[name](named, tmp_path / "shop" / "signs")
        return tmp_path / "shop" / "signs"

    return write


@pytest.mark.parametrize("name", disguises.DISGUISES)
def test_prepare_data__reads_every_disguise(name, disguised, images, tmp_path):
    source = disguised(name)
    before = contents(tmp_path / "shop")
    found = yolo_mha.prepare_data(source)
    assert contents(tmp_path / "shop") == before
    assert Path(found.data).is_relative_to(tmp_path / "runs" / "datasets")
    truth = {f"{i.split}_{i.file.stem}": sorted((n, *np.round(box, 1)) for n, *box in i.objects) for i in images}
    got = objects(Path(found.data))
    assert got.keys() == truth.keys()
    for stem, boxes in truth.items():
        assert [b[0] for b in got[stem]] == [b[0] for b in boxes]
        assert np.allclose([b[1:] for b in got[stem]], [b[1:] for b in boxes], atol=0.11)
    assert found.ok
    assert (found.without_image, found.not_named) == ([], [])
    assert (found.proposed is None) == (name in WITH_SPLIT)
    if name in WITH_SPLIT:
        assert [s.images for s in found.splits.values()] == [6, 6]
    assert Path(found.labels_picture).stat().st_size > 1000
    assert Path(found.histograms).stat().st_size > 1000


def test_prepare_data__trains_at_once(disguised, tiny):
    found = yolo_mha.prepare_data(disguised("labelme_beside"))
    assert yolo_mha.train("demo-mha.yaml", found.data, **tiny).epochs == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", disguises.DISGUISES)
@pytest.mark.parametrize("folder", ["bccd", "hdbpmn", "neu-det"])
def test_prepare_data__trains_on_real_data_in_every_disguise(name, folder, test_data, tmp_path, tiny):
    read = disguises.read(test_data / folder, 12)
    disguises.DISGUISES[name](read, tmp_path / "signs")
    found = yolo_mha.prepare_data(tmp_path / "signs")
    assert sum(s.images for s in found.splits.values()) == len(read)
    assert sum(s.objects for s in found.splits.values()) == sum(len(i.objects) for i in read)
    assert yolo_mha.train("demo-mha.yaml", found.data, **tiny).epochs == 1


def test_prepare_data__finds_an_image_that_is_in_two_splits_of_neu_det(test_data):
    found = yolo_mha.prepare_data(test_data / "neu-det")
    assert [(Path(t.first).name, Path(t.second).name) for t in found.across_splits] == [
        ("patches_105.jpg", "patches_101.jpg")
    ]
    assert found.proposed is None
    assert {split: s.images for split, s in found.splits.items()} == {"train": 1440, "val": 360}


def test_prepare_data__lists_real_images_of_yolo_data(tmp_path):
    folder = yolo(tmp_path / "pets")
    data = Path(yolo_mha.prepare_data(folder, tmp_path / "out").data)
    assert data == tmp_path / "out" / "data.yaml"
    assert sorted(p.name for p in data.parent.iterdir()) == [
        *("data.yaml", "histograms.png", "labels.jpg", "test.txt", "train.txt", "val.txt")
    ]
    assert yaml.safe_load(data.read_text())["names"] == {0: "cat", 1: "dog"}
    dataset = load_dataset(data)
    listed = [image for split in SPLITS for image in image_files(dataset, split)]
    assert sorted(listed) == sorted((folder / "images").iterdir())


def test_prepare_data__draws_thin_pictures(tmp_path):
    folder = yolo(tmp_path / "pets")
    image = next((folder / "images").iterdir())
    cv2.imwrite(str(image), np.zeros((9000, 10, 3), np.uint8))
    assert Path(yolo_mha.prepare_data(folder, tmp_path / "out").data).with_name("labels.jpg").exists()


def test_prepare_data__links_images_where_labels_have_to_be_written(disguised, tmp_path):
    data = Path(yolo_mha.prepare_data(disguised("voc_annots"), tmp_path / "out").data)
    linked = list((data.parent / "images").glob("*/*"))
    assert len(linked) == 12
    assert all(p.is_symlink() and p.resolve().parent == tmp_path / "shop" / "signs" / "images" for p in linked)


def test_prepare_data__keeps_ids_crowds_and_difficult_objects(tmp_path):
    noise(tmp_path / "d" / "images" / "a.png", 1)
    noise(tmp_path / "d" / "images" / "b.png", 2)
    annotations = [
        {"id": 70, "image_id": 9, "category_id": 30, "bbox": [1, 2, 30, 40], "area": 5.5, "iscrowd": 1},
        {"id": 71, "image_id": 9, "category_id": 30, "bbox": [1, 2, 30, 40], "area": 7.5, "iscrowd": 0},
        {"id": 72, "image_id": 4, "category_id": 10, "bbox": [1, 2, 10, 10], "area": 8.5, "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 9, "file_name": "a.png"}, {"id": 4, "file_name": "b.png"}],
        "annotations": annotations,
        "categories": [{"id": 30, "name": "zebra"}, {"id": 10, "name": "ant"}],
    }
    (tmp_path / "d" / "all.json").write_text(json.dumps(content))
    found = yolo_mha.prepare_data(tmp_path / "d", ratios=(0.5, 0.5))
    assert list(found.classes) == ["zebra", "ant"]
    kept = {}
    for split in ("train", "val"):
        truth = json.loads((Path(found.data).parent / "annotations" / f"{split}.json").read_text())
        kept |= {a["id"]: (a["image_id"], a["category_id"], a["area"], a["iscrowd"]) for a in truth["annotations"]}
    assert kept == {70: (9, 30, 5.5, 1), 71: (9, 30, 7.5, 0), 72: (4, 10, 8.5, 0)}


def test_prepare_data__names_what_cannot_be_used(tmp_path, capsys):
    folder = yolo(tmp_path / "pets")
    (folder / "images" / "00.png").write_bytes(b"no picture")
    (folder / "labels" / "01.txt").write_text("0 0.5 0.5 x 0.5\n")
    (folder / "labels" / "02.txt").unlink()
    (folder / "labels" / "03.txt").write_text("")
    (folder / "labels" / "alone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    found = yolo_mha.prepare_data(folder)
    assert not found.ok
    assert [Path(re.split(": ", s)[0]).name for s in found.skipped] == ["00.png", "01.png"]
    assert "01.txt" in found.skipped[1]
    assert sum(s.images for s in found.splits.values()) == 10
    assert sum(s.without_labels for s in found.splits.values()) == 1
    assert sum(s.background for s in found.splits.values()) == 1
    with pytest.raises(SystemExit) as ended:
        main(["data", f"source={folder}"])
    out = capsys.readouterr().out
    assert ended.value.code == 1
    assert "2 files cannot be used and are left out:\n" in out
    assert "00.png: not a readable image" in out


def test_prepare_data__skips_what_is_broken_in_other_formats(disguised):
    voc = disguised("voc_annots")
    (voc / "annots" / "train_0000.xml").write_text("<annotation>")
    (voc / "images" / "train_0001.png").unlink()
    noise(voc / "images" / "new.png", 1)
    found = yolo_mha.prepare_data(voc)
    assert [Path(s.partition(": ")[0]).name for s in found.skipped] == ["train_0000.png"]
    assert [Path(p).name for p in found.without_image] == ["train_0001.xml"]
    assert sum(s.without_labels for s in found.splits.values()) == 1


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "left"),
    [
        ("csv_headings", "labels.csv", "train_0000.png,192,192,", "train_0000.png,192,192,x", 12),
        ("csv_headings", "labels.csv", "train_0000.png,192,192,day", "train_0000.png,192,192,", 12),
        ("labelme_beside", "train_0000.json", '"points"', '"punkte"', 11),
        ("labelme_beside", "train_0000.json", "{", "", 11),
        ("ndjson", "dataset.ndjson", '{"type": "image", "file": "train_0000.png"', '{"file": "train_0000.png', 11),
        ("cvat_images", "annotations.xml", 'xtl="', 'xtl="x', 0),
    ],
)
def test_prepare_data__text_that_is_broken(name, file, old, new, left, disguised):
    path = disguised(name) / file
    path.write_text(path.read_text().replace(old, new, 1 if left else -1))
    if not left:
        with pytest.raises(DataError, match="none of their images"):
            yolo_mha.prepare_data(path.parent)
        return
    found = yolo_mha.prepare_data(path.parent)
    assert sum(s.images for s in found.splits.values()) >= 11
    assert len(found.skipped) == 12 - sum(s.images for s in found.splits.values())


def test_prepare_data__takes_val_out_of_train_where_only_that_is_missing(tmp_path):
    folder = yolo(yolo(tmp_path / "pets", 20, "train"), 5, "test")
    found = yolo_mha.prepare_data(folder)
    assert {split: s.images for split, s in found.splits.items()} == {"train": 18, "val": 2, "test": 5}
    assert found.proposed.startswith("val is taken out of train")


def test_prepare_data__split_is_by_class_and_seeded(tmp_path):
    folder = yolo(tmp_path / "pets", 40)
    found = yolo_mha.prepare_data(folder)
    assert {split: s.images for split, s in found.splits.items()} == {"train": 32, "val": 4, "test": 4}
    assert found.classes == {"cat": {"train": 16, "val": 2, "test": 2}, "dog": {"train": 16, "val": 2, "test": 2}}
    assert yolo_mha.prepare_data(folder).data == found.data
    assert yolo_mha.prepare_data(folder, seed=1).data != found.data


def test_prepare_data__keeps_groups_and_near_duplicates_together(tmp_path):
    folder = yolo(tmp_path / "pets", 40)
    for i in range(0, 40, 2):  # half of them again, smaller and darker
        twin = cv2.imread(str(folder / "images" / f"{i:02d}.png"))
        cv2.imwrite(str(folder / "images" / f"{i:02d}b.png"), cv2.resize(twin, (53, 41)) // 2)
        shutil.copyfile(folder / "labels" / f"{i:02d}.txt", folder / "labels" / f"{i:02d}b.txt")
    found = yolo_mha.prepare_data(folder, group=r"^(\d)", ratios=(0.5, 0.5))
    assert (found.across_splits, found.within_splits) == ([], 20)
    dataset = load_dataset(found.data)
    tens = {split: {p.name[0] for p in image_files(dataset, split)} for split in ("train", "val")}
    assert not tens["train"] & tens["val"]
    assert Counter(map(len, tens.values())) == {2: 2}


def test_prepare_data__finds_near_duplicates_across_splits(tmp_path):
    folder = yolo(yolo(tmp_path / "pets", 8, "train"), 4, "val")
    twin = cv2.imread(str(folder / "images" / "train" / "train05.png"))
    cv2.imwrite(str(folder / "images" / "val" / "copy.jpg"), cv2.resize(twin, (71, 64)))
    found = yolo_mha.prepare_data(folder)
    assert [(Path(t.first).name, Path(t.second).name) for t in found.across_splits] == [("train05.png", "copy.jpg")]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"source": "nowhere"}, DataError, "Dataset not found"),
        ({"source": "https://example.com/d.zip"}, DataError, "download it yourself"),
        ({"source": "empty"}, DataError, "holds no labels in a known format"),
        ({"format": "coco"}, DataError, "holds no labels in the format coco"),
        ({"format": "vox"}, DataError, "did you mean voc"),
        ({"ratios": 0.8}, ConfigError, "ratios has an unusable value"),
        ({"ratios": (0.8, 0.8)}, ConfigError, "ratios has an unusable value"),
        ({"ratios": (1.0, 0.0)}, ConfigError, "ratios has an unusable value"),
        ({"out": "pets/out"}, ConfigError, "never changed"),
        ({"out": "full"}, ConfigError, "not empty"),
        ({"group": "("}, ConfigError, "not a valid regular expression"),
    ],
)
def test_prepare_data__refuses(settings, error, words, tmp_path):
    yolo(tmp_path / "pets")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    before = contents(tmp_path)
    with pytest.raises(error, match=words):
        yolo_mha.prepare_data(**{"source": "pets", **settings})
    assert contents(tmp_path) == before


def test_prepare_data__two_formats_are_not_mixed(disguised, tmp_path):
    folder = disguised("voc_annots")
    yolo(folder)
    with pytest.raises(DataError, match=r"several formats.*\n.*YOLO: .*Pascal VOC: 12 files.*\n.*\n.*format=voc"):
        yolo_mha.prepare_data(folder)
    assert yolo_mha.prepare_data(folder, format="voc").format == "Pascal VOC"


def test_data__as_json(capsys, disguised):
    with pytest.raises(SystemExit) as ended:
        main(["data", f"source={disguised('csv_headings') / 'labels.csv'}", "ratios=0.5,0.5", "--json"])
    assert not ended.value.code
    answer = json.loads(capsys.readouterr().out)
    assert (answer["format"], Path(answer["data"]).name) == ("CSV table", "data.yaml")
    assert set(answer["splits"]) == {"train", "val"}
    assert set(answer["splits"]["val"]) == {"images", "objects", "background", "without_labels"}
