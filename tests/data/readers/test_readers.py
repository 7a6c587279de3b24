"""What each reader makes of its format's odd cases; whole datasets are in tests/diagnosis/test_prepare.py."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yolo_mha.data.readers.recognise import read_folder
from yolo_mha.data.readers.record import Reading
from yolo_mha.data.readers.tree import Tree
from yolo_mha.errors import DataError

from ..formats import instances, picture, voc, xml


def read(folder: Path, **files: str) -> Reading:
    """Write text files, with ``__`` for a slash and for a dot after it, and read the folder."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__"))
        path = path.with_name(".".join(path.name.rsplit("_", 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_folder(Tree(folder))[1]


def boxes(reading: Reading) -> dict[str, list]:
    return {r.image.name: [(o.name, *np.round(o.bbox, 3)) for o in r.objects] for r in reading.records}


def test_table__corners_in_any_order_other_headings_and_semicolons(tmp_path):
    picture(tmp_path / "a.png")
    found = read(tmp_path, t_csv="image_name;label;x1;y2;x2;y1\na.png;cat;30;5;10;15\n\n")
    assert boxes(found) == {"a.png": [("cat", 10, 5, 20, 10)]}


@pytest.mark.parametrize(
    "table",
    [
        "filename,x,y,w,h,class\na.png,10,5,20,10,cat\n",
        'image_id,width,height,bbox,label\na,64,48,"[10.0, 5.0, 20.0, 10.0]",cat\n',
        "image,x,y,width,height,label\na.png,10,5,20,10,cat\n",
    ],
)
def test_table__corner_and_size(tmp_path, table):
    picture(tmp_path / "a.png")
    assert boxes(read(tmp_path, t_csv=table)) == {"a.png": [("cat", 10, 5, 20, 10)]}


def test_table__a_box_of_three_numbers_is_named(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    found = read(tmp_path, t_csv='image,bbox,label\na.png,"[1, 2, 3]",cat\nb.png,"[1, 2, 3, 4]",cat\n')
    assert boxes(found) == {"b.png": [("cat", 1, 2, 3, 4)]}
    assert "in place of x, y, width, height" in next(iter(found.skipped.values()))


def test_table__an_image_in_tables_of_two_splits_is_of_the_first(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    head, row = "image,x1,y1,x2,y2,label\n", "{}.png,1,1,5,5,cat\n"
    train, val = (head + "".join(map(row.format, names)) for names in ("ab", "bc"))
    found = read(tmp_path, train_csv=train, val_csv=val, train2_csv=head + row.format("a").replace("cat", "dog"))
    assert [(r.image.stem, r.split, len(r.objects)) for r in found.records] == [
        ("a", "train", 2),
        ("b", "train", 1),
        ("c", "val", 1),
    ]
    assert found.without_image == ["b.png"]


def test_table__a_row_given_twice_counts_once(tmp_path):
    picture(tmp_path / "a.png")
    found = read(tmp_path, t_csv="image,x1,y1,x2,y2,label\n" + "a.png,1,1,5,5,cat\n" * 2 + "a.png,1,1,5,5,dog\n")
    assert boxes(found) == {"a.png": [("cat", 1, 1, 4, 4), ("dog", 1, 1, 4, 4)]}


def test_table__its_column_says_which_of_two_images_is_meant(tmp_path):
    rows = "image,x1,y1,x2,y2,label,split\na.png,1,1,5,5,cat,train\na.png,2,2,6,6,dog,valid\n"
    for split in ("train", "val"):
        picture(tmp_path / split / "a.png")
    found = read(tmp_path, t_csv=rows)
    assert [(r.split, r.image.parent.name, r.objects[0].name) for r in found.records] == [
        ("train", "train", "cat"),
        ("val", "val", "dog"),
    ]


def test_find__capitals_tell_images_apart(tmp_path):
    for name in ("A", "a"):
        picture(tmp_path / f"{name}.png")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("a file system that does not tell capitals apart")
    found = read(tmp_path, t_csv="image,x1,y1,x2,y2,label\nA.png,1,1,5,5,cat\na.jpg,1,1,5,5,dog\n")
    assert {r.image.name: r.objects[0].name for r in found.records} == {"A.png": "cat", "a.png": "dog"}


def test_voc__a_file_whose_image_is_gone_is_of_no_other_image(tmp_path):
    picture(tmp_path / "img.png")
    for name, kind in (("img.1", "dog"), ("img", "cat")):
        xml(tmp_path / f"{name}.xml", (kind, 0, 1, 1, 5, 5))
    found = read(tmp_path)
    assert boxes(found) == {"img.png": [("cat", 0, 0, 5, 5)]}
    assert found.without_image == [str(tmp_path / "img.1.xml")]


def test_voc__files_that_labelimg_calls_verified(tmp_path):
    picture(tmp_path / "a.png")
    xml(tmp_path / "a.xml", ("cat", 0, 1, 1, 5, 5), ("cat", 0, 1, 1, 5, 5))
    text = (tmp_path / "a.xml").read_text().replace("<annotation>", '<annotation verified="yes">')
    assert boxes(read(tmp_path, a_xml=text)) == {"a.png": [("cat", 0, 0, 5, 5)]}  # which is given twice


def test_table__fractions_are_of_the_image(tmp_path):
    picture(tmp_path / "a.png")
    found = read(tmp_path, t_csv="ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na,/m/1,0.25,1,0,0.5,1\n")
    assert boxes(found) == {"a.png": [("/m/1", 10, 0, 30, 10)]}
    assert found.records[0].objects[0].iscrowd == 1


def test_table__one_class_without_a_column(tmp_path):
    picture(tmp_path / "a.png")
    assert boxes(read(tmp_path, t_csv="file,xmin,ymin,xmax,ymax\na.png,1,2,3,5\n")) == {
        "a.png": [("object", 1, 2, 2, 3)]
    }


def test_table__column_says_the_split_and_an_empty_row_is_background(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    found = read(tmp_path, t_csv="path,xmin,ymin,xmax,ymax,class,split\na.png,1,2,3,5,cat,valid\nb.png,,,,,,train\n")
    assert [(r.image.name, r.split, len(r.objects)) for r in found.records] == [
        ("a.png", "val", 1),
        ("b.png", "train", 0),
    ]


def test_table__classes_in_the_order_of_their_table(tmp_path):
    picture(tmp_path / "a.png")
    found = read(tmp_path, train_csv="a.png,1,2,3,5,zebra\na.png,1,2,9,9,ant\n", classes_csv="zebra,0\nant,1\n")
    assert found.names == ["zebra", "ant"]


def test_table__other_tables_are_none(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="no labels in a known format"):
        read(tmp_path, results_csv="epoch,loss\n1,0.5\n", nul_csv="a\0b,c\n")


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("rectangle", [[30, 15], [10, 5]], [10, 5, 20, 10]),
        ("polygon", [[10, 5], [30, 7], [12, 15]], [10, 5, 20, 10]),
        ("circle", [[20, 10], [23, 14]], [15, 5, 10, 10]),
        ("mask", [[10, 5], [30, 15]], [10, 5, 20, 10]),
        ("point", [[1, 1]], None),
        ("linestrip", [[1, 1], [5, 5], [9, 1]], None),
    ],
)
def test_labelme__shapes(tmp_path, kind, points, box):
    picture(tmp_path / "pictures" / "a.png")
    shape = {"label": "cat", "shape_type": kind, "points": points}
    content = {"imagePath": "..\\pictures\\a.png", "shapes": [shape], "imageHeight": 20, "imageWidth": 40}
    found = read(tmp_path, labels__x_json=json.dumps(content))
    assert [o.bbox for o in found.records[0].objects] == ([box] if box else [])
    assert bool(found.notes) == (box is None)


def test_ndjson__polygons_corners_and_key_points_become_boxes(tmp_path):
    picture(tmp_path / "a.png")
    rows = {
        "boxes": [[0, 0.5, 0.5, 0.5, 0.5]],
        "segments": [[1, 0.25, 0.25, 0.75, 0.25, 0.5, 0.75]],
        "obb": [[1, 0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75]],
        "pose": [[0, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9, 1, 0.1, 0.1, 1]],
    }
    head = {"type": "dataset", "task": "detect", "class_names": {"0": "zebra", "1": "ant"}}
    lines = [head, {"type": "image", "file": "a.png", "split": "val", "annotations": rows}]
    found = read(tmp_path, d_ndjson="\n".join(map(json.dumps, lines)))
    assert found.names == ["zebra", "ant"]
    assert boxes(found) == {"a.png": [("zebra", 10, 5, 20, 10), ("ant", 10, 5, 20, 10)]}
    assert found.records[0].split == "val"


@pytest.mark.parametrize(
    "head", ['{"type": "dataset", "task": "classify"}', '{"class_names": {"x": "cat"}}', '{"class_names": [1]}']
)
def test_ndjson__heads_that_cannot_be_used(tmp_path, head):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"another task|cannot be read"):
        read(tmp_path, d_ndjson=f'{head}\n{{"file": "a.png"}}\n')


def test_cvat__polygons_subsets_and_the_order_of_labels(tmp_path):
    picture(tmp_path / "images" / "a.png")
    text = (
        "<annotations><meta><job><labels><label><name>zebra</name></label><label><name>ant</name></label></labels></job>"
        '</meta><image name="a.png" subset="Validation" width="40" height="20"><polygon label="ant" points="10,5;30,7;'
        '12,15"/><box label="zebra" xtl="1" ytl="2" xbr="3" ybr="5"/><points label="ant" points="1,1"/></image>'
        "</annotations>"
    )
    found = read(tmp_path, annotations_xml=text)
    assert found.names == ["zebra", "ant"]
    assert boxes(found) == {"a.png": [("ant", 10, 5, 20, 10), ("zebra", 1, 2, 2, 3)]}
    assert found.records[0].split == "val"
    assert "1 shapes" in found.notes[0]


def test_cvat__turned_boxes(tmp_path):
    picture(tmp_path / "a.png")
    box = '<box label="ant" xtl="{}" ytl="{}" xbr="{}" ybr="{}" rotation="{}"/>'
    turned = box.format(10, 8, 30, 12, 90) + box.format(10, 8, 30, 12, 180) + box.format(10, 6, 18, 14, 45)
    read(tmp_path, x_xml=f'<annotations><image name="a.png">{turned}</image></annotations>')
    found = boxes(read_folder(Tree(tmp_path))[1])["a.png"]
    side = round(8 * 2**0.5, 3)
    corner = (round(14 - side / 2, 3), round(10 - side / 2, 3))
    assert found[:2] == [("ant", 18, 0, 4, 20), ("ant", 10, 8, 20, 4)]
    assert found[2][1:] == pytest.approx((*corner, side, side), abs=2e-3)


def test_cvat__a_video_is_refused(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="of a video"):
        read(tmp_path, x_xml='<annotations><track id="0" label="ant"/></annotations>')


def test_yolo__key_points_are_left_out(tmp_path):
    picture(tmp_path / "a.png")
    about = "train: images\nval: images\nkpt_shape: [2, 2]\nnames: [cat]\n"
    found = read(tmp_path, a_txt="0 0.5 0.5 0.5 0.5 0.9 0.9 0.1 0.1\n", data_yaml=about)
    assert boxes(found) == {"a.png": [("cat", 10, 5, 20, 10)]}
    assert "Key points are left out" in found.notes[0]


def test_yolo__polygons_and_rows_given_twice(tmp_path):
    picture(tmp_path / "a.png")
    row = "0 0.5 0.5 0.5 0.5\n"
    found = read(tmp_path, a_txt=row + row + "1 0.25 0.25 0.75 0.25 0.5 0.75\n", classes_txt="cat\ndog\n")
    assert boxes(found) == {"a.png": [("cat", 10, 5, 20, 10), ("dog", 10, 5, 20, 10)]}


def test_yolo__classes_without_names(tmp_path):
    picture(tmp_path / "a.png")
    found = read(tmp_path, a_txt="2 0.5 0.5 0.5 0.5\n")
    assert found.names == ["class_0", "class_1", "class_2"]
    assert "No file has class names" in found.notes[0]


ROW = "{} 0.5 0.5 0.5 0.5\n"


def test_yolo__lists_of_class_names_that_differ_are_refused(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "a.png")
        (tmp_path / split / "a.txt").write_text(ROW.format(0))
        (tmp_path / split / "classes.txt").write_text("cat\ndog\n")
    assert read(tmp_path).names == ["cat", "dog"]
    (tmp_path / "val" / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(DataError, match="several lists of class names, and they differ") as caught:
        read(tmp_path)
    assert f"{tmp_path / 'val' / 'classes.txt'}: dog, cat" in caught.value.given


def test_yolo__quoted_indices_of_classes(tmp_path):
    picture(tmp_path / "a.png")
    found = read(tmp_path, a_txt=ROW.format(1), data_yaml="names: {'0': cat, '1': dog}\n")
    assert (found.names, found.records[0].objects[0].name, found.notes) == (["cat", "dog"], "dog", [])


def test_yolo__labels_in_another_folder_are_paired_by_their_own(tmp_path):
    for name in ("a/1", "b/1", "b/2", "c/3", "d/4", "e/4"):
        picture(tmp_path / "images" / f"{name}.png")
    names = {"a/1": 0, "b/1": 1, "b/2": 2, "x/4": 0}
    texts = {f"annots__{name.replace('/', '__')}_txt": ROW.format(kind) for name, kind in names.items()}
    found = read(tmp_path, **texts, annots__c__3_TXT=ROW.format(3), classes_txt="k0\nk1\nk2\nk3\n")
    shown = {str(r.image.relative_to(tmp_path / "images"))[:3]: r.objects[0].name for r in found.records}
    assert shown == {"a/1": "k0", "b/1": "k1", "b/2": "k2", "c/3": "k3"}
    assert {
        str(image.relative_to(tmp_path / "images")): why[:29] for image, why in found.skipped.items()
    } == dict.fromkeys(("d/4.png", "e/4.png"), "1 label files for 2 images of")


def test_yolo__an_image_without_labels_takes_none_of_another_folder(tmp_path):
    for name in ("a/1", "b/1"):
        picture(tmp_path / "images" / f"{name}.png")
    found = read(tmp_path, labels__a__1_txt=ROW.format(0))
    assert [(r.image.parent.name, r.labelled) for r in found.records] == [("a", True), ("b", False)]
    assert found.in_place


def test_yolo__known_by_its_first_labels_with_rows(tmp_path):
    for i in range(30):
        picture(tmp_path / f"{i:02}.png")
    found = read(tmp_path, **{f"{i:02}_txt": ROW.format(0) if i > 20 else "" for i in range(30)})
    assert sum(len(r.objects) for r in found.records) == 9


def test_yolo__class_without_a_name_is_skipped(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    row = "{} 0.5 0.5 0.5 0.5\n"
    found = read(tmp_path, a_txt=row.format(2), b_txt=row.format(0), classes_txt="cat\ndog\n")
    assert list(boxes(found)) == ["b.png"]
    assert "class 2, and the last is 1" in found.skipped[tmp_path / "a.png"]


def test_yolo__data_yaml_of_another_machine_gives_names_and_folders_the_split(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.png")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    text = "path: /home/me/d\ntrain: train/images\nval: valid/images\nnames: [cat, dog]\n"
    found = read(tmp_path, data_yaml=text)
    assert [(r.split, r.objects[0].name) for r in found.records] == [("train", "dog"), ("val", "dog")]
    assert found.in_place


def test_voc__names_are_told_apart_by_their_split(tmp_path):
    for split, name in (("train", "cat"), ("val", "dog")):
        picture(tmp_path / split / "images" / "a.png")
        xml(tmp_path / split / "annots" / "a.xml", (name, 0, 1, 1, 40, 20))
    found = read(tmp_path)
    assert [(r.split, r.objects[0].name) for r in found.records] == [("train", "cat"), ("val", "dog")]


def test_voc__lists_decide_and_difficult_objects_are_ignored(tmp_path):
    folder = voc(tmp_path / "pets")
    picture(folder / "JPEGImages" / "unlisted.png")
    found = read(folder)
    assert [(r.image.stem, r.split) for r in found.records] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "val"),
        ("d", "val"),
    ]
    assert [(o.name, o.ignore) for o in found.records[0].objects] == [("zebra", 0), ("ant", 1)]
    assert "unlisted.png" in found.notes[0]


def test_voc__names_with_dots_spaces_suffixes_and_flags(tmp_path):
    for stem in ("a.rf.0", "b 1", "c", "d", "e"):
        picture(tmp_path / "JPEGImages" / f"{stem}.png")
        xml(tmp_path / "Annotations" / f"{stem}.xml", ("cat", 0, 1, 1, 40, 20))
    lists = {"train": "a.rf.0\nb 1\n", "val": "JPEGImages/c.png -1\nd.png\n\nJPEGImages/e.png Annotations/e.xml\n"}
    found = read(tmp_path, **{f"ImageSets__Main__{split}_txt": text for split, text in lists.items()})
    splits = {"a.rf.0": "train", "b 1": "train", "c": "val", "d": "val", "e": "val"}
    assert {r.image.stem: r.split for r in found.records} == splits
    assert found.notes == []


def test_coco__several_files_for_one_split_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    write: Callable = lambda name: instances(tmp_path / name, [(1, "a.png")], [(1, 5, [0, 0, 5, 5], {})])  # noqa: E731
    write("one.json")
    write("two.json")
    with pytest.raises(DataError, match=r"several COCO files.*\n.*one\.json, two\.json"):
        read(tmp_path)
    assert len(read_folder(Tree(tmp_path / "one.json"))[1].records) == 1


def test_coco__images_that_are_not_there_are_named(tmp_path):
    picture(tmp_path / "img" / "a.png")
    instances(tmp_path / "x.json", [(1, "old/a.png"), (2, "b.png")], [(1, 5, [0, 0, 5, 5], {})])
    found = read(tmp_path)
    assert list(boxes(found)) == ["a.png"]
    assert found.without_image == ["b.png"]


def test_coco__none_of_the_images_is_there(tmp_path):
    instances(tmp_path / "x.json", [(1, "a.png")], [(1, 5, [0, 0, 5, 5], {})])
    with pytest.raises(DataError, match="none of their images"):
        read(tmp_path)
