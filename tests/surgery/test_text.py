import re

import pytest
import yaml

from yolo_mha.surgery.insertion import Insertion
from yolo_mha.surgery.rows import blocks, edit, plan_insertion, plan_removal
from yolo_mha.surgery.text import dump, edit_text, keep_one_scale

from .conftest import SHIPPED, read, rows

ROW = Insertion("P5", options={"num_heads": 8, "mlp_ratio": 2.0}).row
SMALL = """\
# a model of mine
nc: 3  # three things
backbone:
  # [from, repeats, module, args]
  - [-1, 1, Conv, [16, 3, 2]]   # 0-P1/2
  - [ -1, 1, Conv, [32, 3, 2] ] # 1 looks at 0 (1) and 2

head:
  - [[-1, 0], 1, Concat, [1]] # cat, row 2
  - [2, 1, Conv, [32, 3, 2]]
  - [[ 3 ], 1, Detect, [nc]] # Detect(P3)
"""


def test_edit_text__changes_from_columns_and_own_numbers_only():
    assert edit_text(SMALL, plan_insertion(5, [0, 1], Insertion("P5").row)).splitlines() == [
        "# a model of mine",
        "nc: 3  # three things",
        "backbone:",
        "  # [from, repeats, module, args]",
        "  - [-1, 1, Conv, [16, 3, 2]]   # 0-P1/2",
        "  - [-1, 1, SpatialMHABlock, []] # 1",
        "  - [ -1, 1, Conv, [32, 3, 2] ] # 2 looks at 0 (2) and 2",
        "  - [-1, 1, SpatialMHABlock, []] # 3",
        "",
        "head:",
        "  - [[-1, 1], 1, Concat, [1]] # cat, row 2",
        "  - [4, 1, Conv, [32, 3, 2]]",
        "  - [[ 5 ], 1, Detect, [nc]] # Detect(P3)",
    ]


def case(path):
    """Return a model as a case; one of a family says enough between releases."""
    common = re.fullmatch(r"yolo(e-)?v?\d+[nc]?|rtdetr-l", path.stem)
    return pytest.param(path, marks=[] if common else [pytest.mark.slow], id=path.stem)


@pytest.mark.parametrize("path", map(case, SHIPPED))
def test_edit_text__says_what_the_rows_say_and_comes_back_to_the_letter(path):
    text, content = path.read_text(encoding="utf-8"), read(path)
    count = len(rows(content))
    for hosts in ([0], [count // 2, count - 2], list(range(0, count - 1, 2))):
        plan = plan_insertion(count, hosts, ROW)
        done = edit_text(text, plan)
        written = yaml.safe_load(done)
        assert {k: written[k] for k in ("backbone", "head")} == {
            k: edit(content, plan)[k] for k in ("backbone", "head")
        }
        assert {k: v for k, v in written.items() if k not in ("backbone", "head")} == {
            k: v for k, v in yaml.safe_load(text).items() if k not in ("backbone", "head")
        }
        assert ("summary:" in text) is ("summary without attention:" in done)
        assert len(done.splitlines()) == len(text.splitlines()) + len(hosts)
        assert edit_text(done, plan_removal(rows(written), blocks(written))) == text


def test_edit_text__keeps_line_ends_and_a_missing_last_one():
    text = SMALL.replace("\n", "\r\n").rstrip()
    done = edit_text(text, plan_insertion(5, [3], ROW))
    assert "\n" not in done.replace("\r\n", "")
    assert "  - [-1, 1, SpatialMHABlock, [{num_heads: 8, mlp_ratio: 2.0}]] # 4\r\n" in done
    assert yaml.safe_load(done)["head"][-1][0] == [4]
    rows_at_the_end = "backbone:\n- [-1, 1, Conv, [8]]\nnc: 1\nhead:\n- [-1, 1, Conv, [8]]\n- [-1, 1, Conv, [8]]"
    assert edit_text(rows_at_the_end, plan_insertion(3, [2], ROW)).splitlines()[-1].startswith("- [-1, 1, SpatialMHA")


@pytest.mark.parametrize(
    "text",
    [
        "nc: 1\nbackbone: [[-1, 1, Conv, [8]], [0, 1, Conv, [8]]]\nhead: [[[1], 1, Detect, [nc]]]\n",
        "nc: 1\nbackbone:\n- - -1\n  - 1\n  - Conv\n  - [8]\n- [0, 1, Conv, [8]]\nhead:\n- [[1], 1, Detect, [nc]]\n",
        "nc: 1\nbackbone:\n- &a [-1, 1, Conv, [8]]\n- [0, 1, Conv, [8]]\nhead:\n- [[1], 1, Detect, [nc]]\n",
        "nc: 1\nbackbone:\n- [-1, 1,\n   Conv, [8]]\n- [0, 1, Conv, [8]]\nhead:\n- [[1], 1, Detect, [nc]]\n",
    ],
    ids=["one line", "block style", "anchor", "folded"],
)
def test_edit_text__other_layouts_are_written_anew(text):
    done = yaml.safe_load(edit_text(text, plan_insertion(3, [0], ROW)))
    assert done == {
        "nc": 1,
        "backbone": [[-1, 1, "Conv", [8]], ROW, [1, 1, "Conv", [8]]],
        "head": [[[2], 1, "Detect", ["nc"]]],
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_dump__says_the_same(path):
    content = read(path)
    written = yaml.safe_load(dump(content))
    assert written == {k: v for k, v in content.items() if k not in ("yaml_file", "scale")}


def test_dump__keeps_the_image_channels():
    text = "nc: 1\nchannels: 4\nbackbone: [[-1, 1, Conv, [8]]]\nhead: [[[0], 1, Detect, [nc]]]\n"
    assert yaml.safe_load(edit_text(text, plan_insertion(2, [0], ROW)))["channels"] == 4


def test_edit_text__reads_numbers_as_yaml_does():
    text = SMALL.replace("[2, 1, Conv", "[0x2, 1, Conv")
    assert yaml.safe_load(edit_text(text, plan_insertion(5, [0], ROW)))["head"][1][0] == 3


def test_keep_one_scale():
    text = next(p for p in SHIPPED if p.name == "yolo11.yaml").read_text(encoding="utf-8")
    kept = yaml.safe_load(keep_one_scale(text, "s", 7))
    assert kept["scales"] == {"s": [0.5, 0.5, 1024]}
    assert kept["nc"] == 7


@pytest.mark.parametrize(
    "scales",
    [
        "{n: [0.5, 0.25, 1024],\n  s: [0.5, 0.5, 1024]}",
        "{n: [0.5, 0.25, 1024], s: [0.5, 0.5, 1024]}",
        "\n  n: [0.5, 0.25, 1024]\n  s:\n    [0.5, 0.5, 1024]",
        "\n  n:\n    - 0.5\n    - 0.25\n    - 1024\n  s:\n    - 0.5\n    - 0.5\n    - 1024",
    ],
)
@pytest.mark.parametrize("scale", ["n", "s"])
def test_keep_one_scale__however_they_are_written(scales, scale):
    text = f"nc: 80\nscales: {scales}\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
    kept = yaml.safe_load(keep_one_scale(text, scale, 7))
    assert kept == {**yaml.safe_load(text), "nc": 7, "scales": {scale: yaml.safe_load(text)["scales"][scale]}}
