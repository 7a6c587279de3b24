import json

import pytest
import yaml

from yolo_mha.data.coco_json import read_coco
from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.errors import DataError

from .formats import coco, instances, picture


def test_read_coco__keeps_what_it_does_not_know(tmp_path):
    content = read_coco(instances(tmp_path / "a.json", [(3, "a.png")], [(3, 5, [0, 0, 1, 1], {"colour": "red"})]))
    assert content["images"][0]["licence"] == 7
    assert content["annotations"][0]["colour"] == "red"
    assert content["info"] == {"year": 2026}


@pytest.mark.parametrize(("said", "width"), [(96, 96), ("96", 96), ("96.0", 96), (None, 0), ("", 0)])
def test_read_coco__reads_sizes_that_are_text(tmp_path, said, width):
    path = instances(tmp_path / "a.json", [(3, "a.png")], [])
    content = json.loads(path.read_text())
    content["images"][0]["width"] = said
    path.write_text(json.dumps(content))
    assert read_coco(path)["images"][0]["width"] == width


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "no list 'images'"),
        ({"images": [{"id": 3}]}, "file_name"),
        ({"images": [{"id": 3, "file_name": "a"}, {"id": 3, "file_name": "b"}]}, "have one id"),
        ({"categories": [{"id": 5, "name": "x"}, {"id": 6, "name": "x"}]}, "one name"),
        ({"annotations": [5]}, "int in place of"),
        ({"annotations": [{"image_id": 4, "category_id": 5, "bbox": [0, 0, 1, 1]}]}, "image_id 4"),
        ({"annotations": [{"image_id": 3, "category_id": [5], "bbox": [0, 0, 1, 1]}]}, "category_id [5]"),
        ({"annotations": [{"image_id": 3, "category_id": 5, "bbox": [0, 0, 1]}]}, "four finite numbers"),
        ({"annotations": [{"image_id": 3, "category_id": 5, "bbox": [0, 0, 1, float("nan")]}]}, "four finite numbers"),
        ({"annotations": [{"image_id": 3, "category_id": 5, "bbox": [0, 0, 1, -1]}]}, "negative"),
        ({"annotations": [{"image_id": 3, "category_id": 5, "bbox": [0, 0, 1, 10**400]}]}, "four finite numbers"),
        ({"images": [{"id": 3, "file_name": "a\0.png"}]}, "no file can have its file_name"),
        ({"images": [{"id": 3, "file_name": "\ud800.png"}]}, "no file can have its file_name"),
        ({"images": [{"id": 3, "file_name": "a.png", "width": "wide"}]}, "its size is no number"),
        ({"images": [{"id": 3, "file_name": "a.png", "width": 9, "height": [9]}]}, "its size is no number"),
    ],
)
def test_read_coco__names_the_fault(tmp_path, change, words):
    path = instances(tmp_path / "a.json", [(3, "a.png")], [])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError) as caught:
        read_coco(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "5"])
def test_read_coco__refuses_other_files(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError):
        read_coco(tmp_path / "a.json")
    with pytest.raises(DataError, match="missing"):
        read_coco(tmp_path / "nowhere.json")


def test_load_dataset__coco_becomes_a_yolo_dataset(tmp_path):
    dataset = load_dataset(coco(tmp_path / "pets"))
    assert dataset.names == {0: "cat", 1: "dog"}
    samples = {s.image.resolve(): s for s in read_split(dataset, "val")}
    folder = tmp_path / "pets" / "val2017"
    one, other, background = (samples[folder / p] for p in ("one/a.png", "images/a.png", "b.png"))
    assert len({s.image.stem for s in samples.values()}) == 3
    assert sorted(zip(one.classes.tolist(), one.boxes.round(6).tolist(), strict=True)) == [
        (0, [0, 0, 10, 10]),  # given twice
        (1, [30, 10, 40, 20]),  # clipped
    ]
    assert other.classes.tolist() == [1]  # without the crowd, the ignored one, and the one outside
    assert other.boxes.round(6).tolist() == [[4, 4, 12, 12]]
    assert len(background.classes) == 0
    truth = json.loads(dataset.annotations["val"].read_text())
    source = json.loads((tmp_path / "pets" / "annotations" / "instances_val2017.json").read_text())
    assert truth["annotations"] == source["annotations"]
    assert [(i["id"], i["file_name"], i["licence"]) for i in truth["images"]] == [
        (42, "one/a.png", 7),
        (7, "images/a.png", 7),
        (9, "b.png", 7),
    ]


def test_load_dataset__roboflow_layout_without_its_grouping_category(tmp_path):
    for part in ("train", "valid"):
        picture(tmp_path / "d" / part / "a.png")
        path = instances(
            tmp_path / "d" / part / "_annotations.coco.json",
            [(0, "a.png")],
            [(0, 2, [1, 1, 5, 5], {})],
            ("pets", "cat", "dog"),
            first=0,
        )
        content = json.loads(path.read_text())
        for category in content["categories"]:
            category["supercategory"] = "none" if category["name"] == "pets" else "pets"
        path.write_text(json.dumps(content))
    dataset = load_dataset(tmp_path / "d")
    assert dataset.names == {0: "cat", 1: "dog"}
    assert read_split(dataset, "val")[0].classes.tolist() == [0]
    assert "'pets' groups the others" in dataset.annotations["val"].read_text()


def test_load_dataset__a_yaml_of_coco_files_gives_the_order_of_classes(tmp_path):
    folder = coco(tmp_path / "pets")
    content = {
        "path": str(folder),
        "train": "annotations/instances_train2017.json",
        "val": "annotations/instances_val2017.json",
        "names": ["dog", "cat"],
    }
    path = tmp_path / "pets.yaml"
    path.write_text(yaml.safe_dump(content))
    dataset = load_dataset(path)
    assert dataset.names == {0: "dog", 1: "cat"}
    assert sum(s.classes.tolist().count(0) for s in read_split(dataset, "val")) == 2
    path.write_text(yaml.safe_dump({**content, "names": ["dog", "cow"]}))
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert "only in names: ['cow']; only in COCO: ['cat']" in str(caught.value)
    path.write_text(yaml.safe_dump({**content, "train": "train2017"}))
    with pytest.raises(DataError, match="some splits only"):
        load_dataset(path)
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if k != "names"} | {"val": "none.json"}))
    with pytest.raises(DataError, match="missing"):
        load_dataset(path)


def test_load_dataset__classes_of_one_split_only_are_in_the_truth_of_the_other(tmp_path):
    folder = coco(tmp_path / "pets")
    picture(folder / "val2017" / "x.png")
    file = folder / "annotations" / "instances_val2017.json"
    instances(file, [(1, "x.png")], [(1, 5, [1, 1, 5, 5], {})], ("dog",))
    dataset = load_dataset(folder)
    assert read_split(dataset, "val")[0].classes.tolist() == [1]
    truth = json.loads(dataset.annotations["val"].read_text())
    assert [(c["id"], c["name"]) for c in truth["categories"]] == [(5, "dog"), (6, "cat")]


def test_load_dataset__some_missing_images_are_an_error_and_a_missing_split_is_one_when_used(tmp_path):
    folder = coco(tmp_path / "pets")
    (folder / "train2017" / "b.png").unlink()
    with pytest.raises(DataError, match="1 of 3 images") as caught:
        load_dataset(folder)
    assert "b.png" in str(caught.value)
    assert str(folder / "train2017") in str(caught.value)
    for image in (folder / "train2017").rglob("*.png"):
        image.unlink()
    dataset = load_dataset(folder)
    assert len(read_split(dataset, "val")) == 3
    with pytest.raises(DataError, match="no train images") as caught:
        read_split(dataset, "train")
    assert "instances_train2017.json" in str(caught.value)


def test_load_dataset__takes_a_supercategory_that_is_no_text_for_none(tmp_path):
    folder = coco(tmp_path / "pets")
    for file in (folder / "annotations").iterdir():
        content = json.loads(file.read_text())
        content["categories"][0]["supercategory"] = ["animal"]
        file.write_text(json.dumps(content))
    assert list(load_dataset(folder).names.values()) == ["cat", "dog"]


def test_load_dataset__says_which_formats_there_are(tmp_path):
    (tmp_path / "d" / "stuff").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "d")
    for words in ("stuff", "data.yaml", "COCO", "Pascal VOC"):
        assert words in str(caught.value)
    instances(tmp_path / "d" / "annotations" / "instances_val2014.json", [], [])
    instances(tmp_path / "d" / "annotations" / "instances_val2017.json", [], [])
    with pytest.raises(DataError, match="2 COCO files for val"):
        load_dataset(tmp_path / "d")


def test_load_dataset__with_an_info_that_is_no_object(tmp_path):
    folder = coco(tmp_path / "pets")
    file = folder / "annotations" / "instances_val2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "info": 5}))
    truth = json.loads(load_dataset(folder).annotations["val"].read_text())
    assert set(truth["info"]) == {"yolo_mha"}
