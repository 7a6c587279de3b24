"""What `prune` chooses heads by, and what stands beside its choice."""

import re

import numpy as np
import pytest
import torch

from yolo_mha import ConfigError, SpatialMHA
from yolo_mha.inspection.pruned import within
from yolo_mha.inspection.pruning_auto import numbers_between
from yolo_mha.inspection.pruning_controls import RANDOM, Control, draws, weight_norms
from yolo_mha.inspection.pruning_curve import counts, pruned_networks
from yolo_mha.inspection.pruning_latency import in_onnx, in_pytorch
from yolo_mha.inspection.silenced_scores import Part, Scored, WithInterval, by_block
from yolo_mha.registry import build
from yolo_mha.scoring.coco import evaluate
from yolo_mha.scoring.matches import match_detections
from yolo_mha.scoring.resample import RESAMPLES, bootstrap_weights, resampled_ap, supports
from yolo_mha.surgery.heads import attentions


def network(*blocks: list):
    backbone = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [24, 3, 2]], *blocks]
    return build({"nc": 2, "backbone": backbone, "head": [[[2 + len(blocks)], 1, "Detect", ["nc"]]]}).eval()


def block(**options) -> list:
    return [-1, 1, "SpatialMHABlock", [options]]


@pytest.mark.parametrize("seed", range(5))
def test_part__is_scored_as_pycocotools_does_its_images(random_coco, seed):
    rng = np.random.default_rng(seed)
    truth, results = random_coco(rng, images=11, classes=2, ties=False)
    inside = rng.random(11) < 0.5
    found = Part(np.arange(11), inside)(match_detections(truth, results))
    ids = {image["id"] for image, there in zip(truth["images"], inside, strict=True) if there}
    some = {**truth, "images": [image for image in truth["images"] if image["id"] in ids]}
    some["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    reference = evaluate(some, [r for r in results if r["image_id"] in ids])
    assert found.ap == pytest.approx(reference.metrics["AP"], abs=1e-12)
    alone = match_detections(some, [r for r in results if r["image_id"] in ids])
    np.testing.assert_allclose(found.replicates, resampled_ap(alone, bootstrap_weights(len(ids), RESAMPLES)))
    assert (found.images, found.group_sizes) == (supports(alone)["AP"].images, None)


def test_part__resamples_groups(random_coco):
    truth, results = random_coco(np.random.default_rng(3), images=12, classes=2)
    groups = np.repeat(np.arange(4), 3)
    matches = match_detections(truth, results)
    found = Part(groups, np.ones(12, bool))(matches)
    np.testing.assert_array_equal(found.group_sizes, supports(matches, groups)["AP"].group_sizes)
    np.testing.assert_allclose(found.replicates, resampled_ap(matches, bootstrap_weights(12, RESAMPLES, groups=groups)))


def test_weight_norms__are_of_what_leaves_with_a_head():
    """Value and output projections, of both kinds of attention."""
    model = network(block(num_heads=3, head_dim=8), [[-1, 1], 1, "CrossScaleMHA", [{"num_heads": 2, "head_dim": 4}]])
    norms = weight_norms(model)
    assert sorted(norms) == [("3", 0), ("3", 1), ("3", 2), ("4", 0), ("4", 1)]
    one, cross = (attentions(model.requires_grad_(False))[name] for name in ("3", "4"))
    value, output = one.qkv.weight[48 + 8 : 48 + 16], one.proj.weight[:, 8:16]
    assert norms["3", 1] == pytest.approx(float((value.square().sum() + output.square().sum()).sqrt()), rel=1e-5)
    value, output = cross.kv.weight[8:12], cross.proj.weight[:, :4]
    assert norms["4", 0] == pytest.approx(float((value.square().sum() + output.square().sum()).sqrt()), rel=1e-5)
    assert isinstance(one, SpatialMHA)


def scored(ap: float, spread: float = 0.0, images: int = 40) -> Scored:
    return Scored(ap, ap + spread * np.random.default_rng(int(ap * 1e4)).normal(size=RESAMPLES), images)


@pytest.mark.parametrize(
    ("others", "images", "said"),
    [
        (
            [0.41, 0.42, 0.40, 0.41, 0.40],
            40,
            r"Removing the chosen heads costs less AP than removing random heads: .* \+0\.0920",
        ),
        ([0.60, 0.61, 0.62, 0.60, 0.61], 40, "Removing the chosen heads costs more AP than removing random heads"),
        ([0.30, 0.61, 0.50, 0.40, 0.52], 40, "It is not shown that removing the chosen heads costs less"),
        ([0.41, 0.42, 0.40, 0.41, 0.40], 9, "It is not known whether .* too few images"),
        ([0.50, 0.50, 0.50, 0.50, 0.50], 40, "It is not shown"),
    ],
    ids=["better", "worse", "draws differ", "few", "equal"],
)
def test_control__says_whether_the_choice_was_better(others, images, said):
    found = Control.of(RANDOM, scored(0.5, images=images), [scored(ap, images=images) for ap in others])
    assert re.match(said, found.sentence)
    assert found.ap == pytest.approx(np.mean(others))
    assert found.gained.value == pytest.approx(0.5 - np.mean(others))


def test_control__of_images_that_differ_is_less_sure():
    def gained(spread: float) -> WithInterval:
        others = [scored(0.45 + i / 1e3, spread) for i in range(5)]
        return Control.of(RANDOM, scored(0.5, spread), others).gained

    narrow, wide = gained(0.0), gained(0.05)
    assert narrow.low > 0 > wide.low


def test_control__of_all_other_heads_has_no_doubt_of_draws():
    others = [scored(ap) for ap in (0.20, 0.50, 0.50)]
    some, every = (Control.of(RANDOM, scored(0.5), others, every).gained for every in (False, True))
    assert some.value == every.value == pytest.approx(0.1)
    assert some.low < 0 < every.low


@pytest.mark.parametrize(("heads", "count", "number"), [(2, 1, 2), (4, 2, 5), (12, 11, 5), (5, 4, 5), (3, 1, 3)])
def test_draws__are_different_and_the_same_again(heads, count, number):
    every = [("3", head) for head in range(heads)]
    found = draws(every, count)
    assert len({tuple(sorted(names)) for names in found}) == len(found) == number
    assert {len(names) for names in found} == {count}
    assert found == draws(every, count)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.001, 0.004), "AP lost is within margin=0.005"),
        ((0.006, 0.009), "AP lost is more than margin=0.005"),
        ((0.001, 0.009), "It is not shown that AP lost is within margin=0.005: its interval ends at 0.0090"),
        ((None, None), "It is not known"),
    ],
    ids=str,
)
def test_within__says_what_the_interval_shows(ends, said):
    assert within(WithInterval(0.003, *ends), 0.005, 0.5).startswith(said)


@pytest.mark.parametrize(("ap", "margin"), [(0.0, 0.005), (0.02, 0.02), (0.004, 0.001)], ids=str)
def test_within__says_nothing_where_there_is_no_ap_to_lose(ap, margin):
    said = within(WithInterval(0.0, 0.0, 0.0), margin, ap)
    assert said == f"The model scores AP {ap:.3f} here, so nothing could be lost that matters."


def test_counts__are_few_and_hold_those_that_are_wanted():
    assert counts(3, 2) == [0, 1, 2, 3]
    assert counts(1, 0) == [0, 1]
    many = counts(64, 17)
    assert ({0, 1, 17, 64} <= set(many), len(many)) == (True, 10)


class Scores:
    """AP by number of heads removed, on the images for choosing."""

    def __init__(self, aps: dict[int, float]) -> None:
        self.aps = aps

    def __call__(self, gone: list) -> list[Scored]:
        return [scored(self.aps[len(gone)])]


@pytest.mark.parametrize(
    ("heads", "lost", "expected"),
    [
        (24, {14: 0.001, 17: 0.01}, [15, 16]),
        (24, {17: 0.01, 21: 0.001, 24: 0.001}, [22, 23]),
        (24, {1: 0.01}, []),
        (3, {2: 0.001}, []),
        (1, {1: 0.001}, []),
    ],
    ids=["between", "the most", "none", "few", "one"],
)
def test_numbers_between__are_those_that_the_curve_leaves_out(heads, lost, expected):
    """AP falls by 0.002 at every number where nothing else is said, and by 0.02 beyond the last."""
    last = max(lost)
    known = {n: 0.02 if n > last or (n > 0 and lost.get(1) == 0.01) else lost.get(n, 0.002) for n in range(heads + 1)}
    score = Scores({n: 0.5 - (value if n else 0) for n, value in known.items()})
    assert list(numbers_between([("3", i) for i in range(heads)], score, 0.005)) == expected


def test_pruned_networks__leave_out_what_rows_cannot_say():
    model = network([-1, 2, "SpatialMHABlock", [{"num_heads": 2, "head_dim": 4}]])
    order = [("3.0", 0), ("3.1", 1), ("3.0", 1), ("3.1", 0)]
    found = pruned_networks(model, order, 2)
    assert {n: sum(a.num_heads for a in attentions(m).values()) for n, m in found.items()} == {0: 4, 2: 2, 4: 0}
    with pytest.raises(ConfigError, match="repeated blocks of row 3"):
        pruned_networks(model, order, 1)


def test_by_block__sorts_them():
    assert by_block([("5", 1), ("10", 0), ("5", 0)]) == {"10": [0], "5": [0, 1]}


def test_latency__beside_the_first():
    torch.manual_seed(0)
    networks = {n: network(*[block(num_heads=2)] * (n == 0)) for n in (0, 2)}
    found = in_pytorch(networks, 64)
    assert (list(found), found[0].ratio) == ([0, 2], 1)
    assert found[2].ms == pytest.approx(found[0].ms * found[2].ratio)


def test_latency__without_onnx_runtime_is_said(monkeypatch):
    monkeypatch.setattr("yolo_mha.inspection.pruning_latency.find_spec", lambda name: name != "onnxruntime" or None)
    assert in_onnx({}, None, 64) == (
        {},
        "No latency in ONNX Runtime: pip install 'yolo-mha[export]' brings onnxruntime.",
    )
