import pytest

import yolo_mha  # noqa: F401  registers the blocks
from yolo_mha.errors import ModelError
from yolo_mha.surgery.rows import apply, edit, moved_freeze, plan_insertion, plan_removal, without_block_rows

from .conftest import SHIPPED, read, rows

BLOCK = [-1, 1, "SpatialMHABlock", []]


def sources(table) -> list:
    return [row[0] for row in table]


def test_insertion__redirects_references_to_the_host_and_shifts_the_others():
    table = [[f, 1, "Conv", [8]] for f in (-1, -1, -1, -2, 1, [-1, 1, 0], -4, [6, 2])]
    table[5][2] = "Concat"
    done = apply(plan_insertion(len(table), [1], BLOCK), table)
    #                        0   1   block  2   3   4  5           6   7
    assert sources(done) == [-1, -1, -1, -1, -2, 2, [-1, 2, 0], -4, [7, 3]]
    assert done[2] == BLOCK


def test_insertion__negative_reference_across_the_block():
    table = [[f, 1, "Conv", [8]] for f in (-1, -1, -1, -3, -1)]
    assert sources(apply(plan_insertion(5, [2], BLOCK), table)) == [-1, -1, -1, -1, -4, -1]
    assert sources(apply(plan_insertion(5, [0], BLOCK), table)) == [-1, -1, -1, -1, -3, -1]


def test_insertion__leaves_arguments_alone():
    content = read(next(p for p in SHIPPED if p.name == "yolov9e.yaml"))
    done = edit(content, plan_insertion(len(rows(content)), [9, 25], BLOCK))
    fused = [row for row in rows(done) if row[2] == "CBFuse"]
    assert [row[3] for row in fused] == [row[3] for row in rows(content) if row[2] == "CBFuse"]
    assert fused[0][0] == [11, 12, 13, 14, 15, -1]  # rows 10 to 14 stood behind one host
    assert rows(done)[15][0] == 10  # CBLinear of row 9 reads the block behind it


def test_insertion__the_image_stays_the_input_of_the_first_row():
    assert sources(apply(plan_insertion(2, [0], BLOCK), [[-1, 1, "Conv", [8]], [0, 1, "Conv", [8]]])) == [-1, -1, 1]


def test_removal__goes_through_blocks_that_read_blocks():
    table = [[-1, 1, "Conv", [8]], BLOCK, BLOCK, [1, 1, "Conv", [8]], [[-1, 2, 0], 1, "Concat", [1]]]
    assert sources(apply(plan_removal(table, [1, 2]), table)) == [-1, 0, [-1, 0, 0]]


def test_removal__of_a_block_that_reads_an_earlier_layer():
    table = [[-1, 1, "Conv", [8]], [-1, 1, "Conv", [8]], [0, 1, *BLOCK[2:]], [-1, 1, "Conv", [8]]]
    assert sources(apply(plan_removal(table, [2]), table)) == [-1, -1, -2]


def test_insertion__of_a_block_that_reads_another_layer_too():
    table = [[-1, 1, "Conv", [8]] for _ in range(4)]
    cross = [[-1, 1], 1, "CrossScaleMHA", []]
    assert sources(apply(plan_insertion(4, [2], cross), table)) == [-1, -1, -1, [-1, 1], -1]
    assert sources(apply(plan_insertion(4, [2, 3], cross), table)) == [-1, -1, -1, [-1, 1], -1, [-1, 1]]
    done = apply(plan_insertion(4, [0], BLOCK), table)
    again = apply(plan_insertion(5, [3], cross), done)
    assert sources(again) == [-1, -1, -1, -1, [-1, 1], -1]
    for late in (2, 3):
        with pytest.raises(ModelError, match="must precede"):
            plan_insertion(4, [2], [[-1, late], 1, "CrossScaleMHA", []])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_removal__is_the_inverse_of_insertion(path):
    content = read(path)
    count = len(rows(content))
    for hosts in ([0], [count - 2], [1, 4, 8], list(range(count - 1))):
        done = edit(content, plan_insertion(count, [h for h in hosts if h < count - 1], BLOCK))
        assert len(done["backbone"]) == len(content["backbone"]) + sum(h < len(content["backbone"]) for h in hosts)
        back, _ = without_block_rows(done)
        normal = [
            [f if f >= 0 else i + f for f in (s if isinstance(s, list) else [s])]
            for i, (s, *_) in enumerate(rows(content))
        ]
        again = [
            [f if f >= 0 else i + f for f in (s if isinstance(s, list) else [s])]
            for i, (s, *_) in enumerate(rows(back))
        ]
        assert again == normal
        assert [row[1:] for row in rows(back)] == [row[1:] for row in rows(content)]


@pytest.mark.parametrize("source", [3, 9, -5])
def test_plan__refuses_a_reference_that_is_not_before_the_row(source):
    table = [[-1, 1, "Conv", [8]]] * 3 + [[source, 1, "Conv", [8]]]
    with pytest.raises(ModelError, match="Row 3"):
        apply(plan_insertion(4, [0], BLOCK), table)


@pytest.mark.parametrize(
    ("freeze", "moved"),
    [
        (None, None),
        (0, 0),
        (2, [0, 2]),
        (3, [0, 2, 3]),
        ([1], [2]),
        ([0, 2, "4.attn"], [0, 3, "4.attn"]),
        (["1.gate"], ["1.gate"]),
        (99, [0, 2, 3, 5]),
    ],
)
def test_moved_freeze__means_the_rows_without_blocks(freeze, moved):
    model = {"backbone": [[-1, 1, "Conv", []], [-1, 1, "SpatialMHABlock", []], [-1, 1, "Conv", []]],
             "head": [[-1, 1, "Conv", []], [-1, 1, "SpatialMHABlock", []], [[4], 1, "Detect", []]]}  # fmt: skip
    assert moved_freeze(freeze, model) == moved
    plain = {"backbone": [model["backbone"][0]], "head": [model["head"][0]]}
    assert moved_freeze(freeze, plain) == freeze
