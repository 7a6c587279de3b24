from pathlib import Path

import pytest

from yolo_mha.data.groups import frames_note, read_groups
from yolo_mha.errors import ConfigError, DataError

IMAGES = [Path(f"scene{s}/ex{n:02}_writer{w}.jpg") for s, n, w in [(1, 0, 88), (1, 1, 89), (2, 0, 88), (2, 2, 90)]]


def named(folder: str, *names: str) -> list[Path]:
    return [Path(folder, name) for name in names]


@pytest.mark.parametrize(
    ("group", "groups"),
    [
        (r"(writer\d+)", ["writer88", "writer89", "writer88", "writer90"]),
        (r"^ex(\d)(\d)", ["0", "0", "0", "0"]),
        ("folder", ["scene1", "scene1", "scene2", "scene2"]),
        ("image", None),
        (None, None),
    ],
)
def test_read_groups__by_pattern_and_by_folder(group, groups):
    if groups and len(set(groups)) == 1:
        with pytest.raises(ConfigError, match="All images are in one group"):
            read_groups(group, IMAGES)
    else:
        assert read_groups(group, IMAGES) == groups


def test_read_groups__folder_of_what_a_mirror_links_to(tmp_path):
    (tmp_path / "mirror").mkdir()
    links = []
    for scene in "ab":
        (tmp_path / scene).mkdir()
        (tmp_path / scene / "1.jpg").touch()
        links.append(tmp_path / "mirror" / f"{scene}__1.jpg")
        links[-1].symlink_to(tmp_path / scene / "1.jpg")
    assert [Path(group).name for group in read_groups("folder", links)] == ["a", "b"]


@pytest.mark.parametrize(
    "table",
    [
        "ex00_writer88.jpg,one\nex01_writer89.jpg,two\nex02_writer90.jpg,two\n",
        "group;x,group,image\n1,one,ex00_writer88.jpg\n2,two,scene1\\ex01_writer89.jpg\n\n2,two, ./ex02_writer90.jpg\n",
    ],
)
def test_read_groups__by_a_table_with_a_heading_or_without(tmp_path, table):
    (tmp_path / "groups.csv").write_text(table)
    assert read_groups(tmp_path / "groups.csv", IMAGES) == ["one", "two", "one", "two"]


def test_read_groups__by_a_table_tells_images_of_one_name_apart_by_their_folders(tmp_path):
    images = [tmp_path / folder / "1.jpg" for folder in "ab"]
    (tmp_path / "g.csv").write_text(f"image,group\n{images[0]},x\nb/1.jpg,y\n")
    assert read_groups(tmp_path / "g.csv", images) == ["x", "y"]
    (tmp_path / "g.csv").write_text("image,group\na/1.jpg,x\n1.jpg,y\n")
    with pytest.raises(DataError, match="several groups for one image"):
        read_groups(tmp_path / "g.csv", images)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("(writer", "not a valid regular expression"),
        (r"writer\d+", "no brackets"),
        ("foldr", "folder; or image"),
        (r"(writer8\d)", "1 of 4 images do not match"),
        (r"(writer8\d)", "ex02_writer90.jpg"),
        (r"ex0[01]_(writer)|ex", "do not match"),
        ("ex(0)", "All images are in one group"),
        (7, "has an unusable value"),
        ("", "has an unusable value"),
    ],
)
def test_read_groups__refuses_what_leaves_images_without_a_group(group, words):
    with pytest.raises(ConfigError) as caught:
        read_groups(group, IMAGES)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "cannot be read"),
        ("", "4 of 4 images are not in"),
        ("image,group\nex00_writer88.jpg,a\n", "2 of 4 images are not in"),
        ("ex00_writer88.jpg,a\nex01_writer89.jpg\n", "Line 2 of"),
        ("image,group\n,a\n", "Line 2 of"),
        ("\x00\xff", ""),
    ],
)
def test_read_groups__refuses_a_table_that_is_broken_or_lacks_images(tmp_path, table, words):
    if table is not None:
        (tmp_path / "g.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_groups(tmp_path / "g.csv", IMAGES)
    assert words in str(caught.value)


@pytest.mark.parametrize("end", [".png", "_png.rf.1f0a9c77.png", "_jpg.rf.3c12.jpg"])
def test_frames_note__proposes_a_group_that_can_be_used(end):
    frames = [Path(f"v/street{s}_{n:05}{end}") for s in range(12) for n in range(0, 30, 10)]
    note = frames_note(frames)
    assert "If the images of a set are not independent" in note
    assert len(set(read_groups(note.partition("group='")[2].partition("'")[0], frames))) == 12


def test_frames_note__names_a_word_whose_numbers_come_again():
    note = frames_note([Path(f"ex{e:02}_writer{w:04}.jpg") for e in range(5) for w in range(88, 95)])
    assert r"If those of one writer are not, take group='(writer\d+)'" in note
    assert "take group" not in frames_note([Path(f"v{v}_frame{f}.jpg") for v in range(5) for f in range(9)])


@pytest.mark.parametrize(
    "images",
    [
        named("a", *(f"{n:012}.jpg" for n in (139, 285, 632, 724))),
        named("a", *(f"BloodImage_{n:05}.jpg" for n in range(9))),
        named("a", "8c3f.jpg", "a17d.jpg", "kitchen.jpg", "b2c9.jpg"),
        named("a", "cat1.jpg", "dog1.jpg", "bird7.jpg"),
        named("a", "cat1.jpg", "cat2.jpg", "dog1.jpg", "dog2.jpg", "bird.jpg"),
    ],
)
def test_frames_note__says_nothing_of_other_names(images):
    assert frames_note(images) is None


@pytest.mark.parametrize(
    ("folder", "noted"), [("coco-val128/images", False), ("bccd/JPEGImages", False), ("hdbpmn/images/test", True)]
)
def test_frames_note__on_real_names(test_data, folder, noted):
    images = sorted((test_data / folder).glob("*.jpg"))
    assert len(images) > 100
    assert (frames_note(images) is not None) == noted
