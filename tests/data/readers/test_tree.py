from pathlib import Path

import pytest

from yolo_mha.data.readers.tree import Tree, split_named


def tree(folder: Path, *names: str) -> Tree:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return Tree(folder)


@pytest.mark.parametrize(
    ("parts", "split"),
    [
        (["train2017"], "train"),
        (["instances_val2014_100"], "val"),
        (["valid"], "val"),
        (["Validation-Set", "images"], "val"),
        (["trainset"], "train"),
        (["obj_train_data"], "train"),
        (["test_images"], "test"),
        (["train", "test"], "test"),
        (["trains", "contest", "value"], None),
        ([], None),
    ],
)
def test_split_named__cases(parts, split):
    assert split_named(parts) == split


def test_tree__root_does_not_count_as_a_split(tmp_path):
    found = tree(tmp_path / "test", "images/a.jpg")
    assert found.split_of(found.images[0]) is None


def test_tree__leaves_hidden_files_and_results_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = tree(
        tmp_path, "a.jpg", "._a.jpg", ".git/b.jpg", "__MACOSX/c.jpg", "runs/datasets/d.jpg", "video/runs/e.jpg"
    )
    assert [p.name for p in found.images] == ["a.jpg", "e.jpg"]


def test_tree__survives_a_loop_of_links(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "again").symlink_to(tmp_path / "d")
    assert [p.name for p in tree(tmp_path / "d", "a.jpg").images] == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "near", "found"),
    [
        ("a.jpg", "train/x.json", "train/a.jpg"),
        ("a.jpg", "annotations/instances_val.json", "val/images/a.jpg"),
        ("a", "val/annots/a.xml", "val/images/a.jpg"),
        ("val\\images\\A.JPG", "x.json", "val/images/a.jpg"),
        ("/data/other/train/a.jpg", "x.json", "train/a.jpg"),
        ("b.png", "x.json", "b.jpg"),
        ("a.jpg", "x.json", None),
        ("c.jpg", "x.json", None),
        ("", "x.json", None),
        ("..", "x.json", None),
    ],
)
def test_find__of_several_with_one_name(tmp_path, name, near, found):
    files = tree(tmp_path, "train/a.jpg", "val/images/a.jpg", "b.jpg", near)
    image = files.find(name, tmp_path / near)
    assert image == (tmp_path / found if found else None)


def test_tree__of_a_file_has_the_images_beside_it_or_above(tmp_path):
    tree(tmp_path, "images/a.jpg", "annotations/x.json", "annotations/y.json")
    found = Tree(tmp_path / "annotations" / "x.json")
    assert found.files(".json") == [tmp_path / "annotations" / "x.json"]
    assert [p.name for p in found.images] == ["a.jpg"]
