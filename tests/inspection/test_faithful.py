"""Deletion and insertion against a computation of their own, rivals, judgements, and the demo's known truth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import yolo_mha
from yolo_mha import YOLO, ConfigError, DataError
from yolo_mha.cli import main
from yolo_mha.inspection.deletion import deletion_insertion, importance_ranks
from yolo_mha.inspection.drise import drise, random_masks, similarities
from yolo_mha.inspection.faithful import KINDS, RIVALS, MapScores, _summed_up, judge
from yolo_mha.inspection.looking import Looker
from yolo_mha.inspection.maps import detection_maps
from yolo_mha.inspection.random_weights import same_detections, with_random_weights
from yolo_mha.inspection.rivals import layercam, rival_maps
from yolo_mha.scoring.intervals import Interval, ScoreInterval
from yolo_mha.surgery.heads import attentions

FEW_SHARES = [0, 0.02, 0.1, 0.4, 1]


def area_under(curve: list[float], shares: list[float]) -> float:
    return sum((curve[i] + curve[i + 1]) / 2 * (shares[i + 1] - shares[i]) for i in range(len(shares) - 1))


def test_deletion_insertion__equals_an_independent_computation(looker, look, picture):
    """Pixel by pixel in numpy, one image at a time through Ultralytics' own model."""
    heat = detection_maps(look, 1).effect
    found = deletion_insertion(looker, look, 1, heat[None])[0]
    model = YOLO("demo-mha.pt").model.eval()
    anchor, index = int(look.anchors[1]), int(look.boxes[1, 5])

    def score(image: np.ndarray) -> float:
        with torch.no_grad():
            return float(model(torch.from_numpy(image)[None].float())[0][0, 4 + index, anchor])

    image = picture[..., ::-1].transpose(2, 0, 1).astype(np.float64) / 255
    blank = np.full_like(image, 114 / 255)
    cells = sorted(((float(heat[r, c]), r, c) for r in range(24) for c in range(24)), reverse=True)
    shares = [(i / 12) ** 2 for i in range(13)]
    deletion, insertion = [], []
    for share in shares:
        deleted, shown = image.copy(), blank.copy()
        for _, r, c in cells[: round(share * len(cells))]:
            pixels = (slice(None), slice(8 * r, 8 * r + 8), slice(8 * c, 8 * c + 8))
            deleted[pixels], shown[pixels] = blank[pixels], image[pixels]
        deletion.append(score(deleted))
        insertion.append(score(shown))
    expected = [area_under(deletion, shares), area_under(insertion, shares)]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert expected[0] < 0.3 < expected[1]


def test_importance_ranks__ties_are_random_and_others_in_order():
    heat = torch.zeros(1, 4, 5)
    heat[0, 2, 3], heat[0, 1, 1] = 2.0, 1.0
    ranks = importance_ranks(heat)
    assert (ranks[0, 2, 3], ranks[0, 1, 1]) == (0, 1)
    assert sorted(ranks.flatten().tolist()) == list(range(20))
    assert ranks[heat == 0].tolist() != sorted(ranks[heat == 0].tolist())


def test_layercam__equals_its_equations(look):
    found = layercam(look, 1, (24, 24))
    (gradient,) = torch.autograd.grad(look.logit(1), look.features[:1], retain_graph=True)
    feature = look.features[0].detach()[0]
    expected = torch.zeros(24, 24)
    for channel, slope in zip(feature, gradient[0], strict=True):
        expected += slope.clamp(min=0) * channel
    torch.testing.assert_close(found, expected.clamp(min=0))
    x, y = ((look.boxes[1, i] + look.boxes[1, i + 2]) / 2 / 8 for i in (0, 1))
    row, column = divmod(int(found.argmax()), 24)
    assert abs(row + 0.5 - y) < 2
    assert abs(column + 0.5 - x) < 2


def test_rival_maps__are_on_the_grid_of_attention(look):
    maps = rival_maps(look, 1, (24, 24), torch.Generator().manual_seed(0))
    assert {name: tuple(heat.shape) for name, heat in maps.items()} == dict.fromkeys(RIVALS, (24, 24))
    x1, y1, x2, y2 = (round(v) for v in look.boxes[1, :4].tolist())
    assert float(maps["box"].sum()) * 64 == pytest.approx((x2 - x1) * (y2 - y1))
    assert int(maps["centre"].argmax()) in (11 * 24 + 11, 11 * 24 + 12, 12 * 24 + 11, 12 * 24 + 12)


@pytest.mark.parametrize("attention_only", [True, False])
def test_with_random_weights__leaves_the_model_alone(looker, look, attention_only, picture):
    before = {name: value.clone() for name, value in looker.model.state_dict().items()}
    twin = with_random_weights(looker, attention_only=attention_only)
    assert all(torch.equal(value, before[name]) for name, value in looker.model.state_dict().items())
    changed = {n.split(".")[1] for n, v in twin.model.state_dict().items() if not torch.equal(v, before[n])}
    assert (changed == {"5"}) == attention_only
    other = same_detections(twin, picture, look)
    assert other.boxes is look.boxes
    assert not torch.allclose(detection_maps(other, 1).attention, detection_maps(look, 1).attention, atol=0.01)


def test_with_random_weights__resets_position_biases_and_norms_of_heads():
    options = {"scope": "window", "window": 4, "position": "relative", "qk_norm": True}
    made = yolo_mha.insert("demo-mha.pt", "layer:3", num_heads=3, head_dim=8, out="m.pt", **options)
    looker = Looker(YOLO(made.checkpoint))
    learned = attentions(looker.model)["4"]
    for parameter in (learned.bias.table, learned.q_norm.weight, learned.k_norm.weight):
        torch.nn.init.constant_(parameter, 7.0)
    reset = attentions(with_random_weights(looker, attention_only=True).model)["4"]
    assert 0.01 < float(reset.bias.table.std()) < 0.03
    assert (reset.q_norm.weight == 1).all()
    assert (reset.k_norm.weight == 1).all()


@pytest.fixture
def few_passes(monkeypatch):
    monkeypatch.setattr("yolo_mha.inspection.drise.MASKS", 40)
    monkeypatch.setattr("yolo_mha.inspection.deletion.SHARES", FEW_SHARES)


def test_drise__is_greatest_on_the_object(looker, look, few_passes):
    found = drise(looker, look, 0, (24, 24))  # the beacon, which is detected from itself alone
    row, column = divmod(int(found.argmax()), 24)
    x1, y1, x2, y2 = (look.boxes[0, :4] / 8).tolist()
    assert x1 - 2 < column + 0.5 < x2 + 2
    assert y1 - 2 < row + 0.5 < y2 + 2


def test_random_masks__show_half_and_cover_the_image():
    masks = random_masks(200, (96, 160), torch.Generator().manual_seed(0))
    assert masks.shape == (200, 1, 96, 160)
    assert float(masks.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(masks.mean(0).std()) < 0.1
    assert (masks.min(), masks.max()) == (0, 1)


def test_similarities__of_both_kinds_of_output():
    box = torch.tensor([10.0, 10.0, 30.0, 30.0])
    anchors = torch.tensor([[20, 20, 20, 20, 0.1, 0.8], [20, 25, 20, 10, 0.9, 0.5], [90, 90, 9, 9, 0.9, 0.9]]).T[None]
    assert similarities(anchors, box, 0).tolist() == pytest.approx([0.45])  # half of the box, 0.9
    assert similarities(anchors, box, 1).tolist() == pytest.approx([0.8])
    rows = torch.tensor([[[10, 10, 30, 30, 0.8, 1], [10, 20, 30, 30, 0.9, 0], [9, 9, 9, 9, 0, 0], [9, 9, 9, 9, 0, 0]]])
    assert similarities(rows, box, 0).tolist() == pytest.approx([0.45])


def test_faithfulness__beside_drise(beacons, few_passes):
    result = yolo_mha.faithfulness("demo-mha.pt", beacons, detections=4, drise=1)
    assert set(result.beside_drise) == {*KINDS, *RIVALS, "D-RISE"}
    assert result.beside_drise["D-RISE"].correlation == pytest.approx(1)
    assert "Beside D-RISE" in Path(result.outputs["report"]).read_text()


def interval(delta: float, half: float = 0.01) -> Interval:
    return Interval(delta, delta - half, delta + half, "images", 1, 50, None, half / 2, None)


def score(value: float) -> ScoreInterval:
    return ScoreInterval(value, value - 0.01, value + 0.01, 50)


@pytest.mark.parametrize(
    ("random", "centre", "correlation", "no_effect", "word", "said"),
    [
        ((-0.3, 0.2), (-0.1, 0.1), 0.2, 100, "yes", "better than a random map and a centre prior"),
        ((-0.3, 0.2), (-0.1, 0.1), 0.2, 101, "no", "without effect on 101 of 200 detections"),
        ((-0.3, 0.2), (-0.1, 0.1), 0.8, 0, "no", "nearly the same with random weights (rank correlation 0.80)"),
        ((-0.3, 0.2), (0.1, 0.1), 0.2, 0, "no", "worse than a centre prior in deletion"),
        ((-0.3, 0.005), (-0.1, 0.1), 0.2, 0, "no", "not surely better than a random map in insertion"),
        ((-0.3, None), (-0.1, 0.1), 0.2, 0, "unknown", "50 images are too few"),
    ],
)
def test_judge__says_yes_only_where_all_holds(random, centre, correlation, no_effect, word, said):
    beaten = {"random": random, "centre": centre, "box": (0.1, 0.0), "LayerCAM": (-0.1, 0.2)}
    differences = {
        rival: {m: None if d is None else interval(d) for m, d in zip(("deletion", "insertion"), pair, strict=True)}
        for rival, pair in beaten.items()
    }
    scores = MapScores(score(0.1), score(0.5), score(0.2), correlation)
    found = judge("effect", scores, differences, 200, "50 images", no_effect)
    assert (found.word, said in found.sentence) == (word, True)
    assert found.sentence.startswith({"yes": "Yes:", "no": "No:", "unknown": "It cannot be said"}[word])
    if word == "yes":
        assert "beside the box itself it is worse in deletion and no different in insertion" in found.sentence


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Ten detections of the demo's model, and what is known of ten images."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("measured")
        patch.chdir(folder)
        patch.setattr("yolo_mha.data.dataset.generate", lambda where: yolo_mha.data.beacons.generate(where, 2, 10))
        patch.setattr("yolo_mha.inspection.faithful.PER_IMAGE", 1)
        patch.setattr("yolo_mha.inspection.deletion.SHARES", FEW_SHARES)
        return yolo_mha.faithfulness("demo-mha.pt", "beacons", detections=10, drise=0)


def test_faithfulness__of_the_demo(measured):
    assert (measured.detections, measured.images, set(measured.maps)) == (10, 10, {*KINDS, *RIVALS})
    assert [judgement.word for judgement in measured.judgements.values()] == ["yes", "yes"]
    assert measured.maps["effect"].deletion.score < 0.1 < measured.maps["random"].deletion.score
    assert json.loads(Path(measured.outputs["numbers"]).read_text()) == measured.as_dict()
    page = Path(measured.outputs["report"]).read_text()
    assert "Yes: the effect map may be believed for this model." in page
    assert "http" not in page


def test_faithfulness__beacon_hits(measured):
    hits = measured.beacon_hits
    assert hits.flipped >= 10
    assert min(hits.hits.values()) >= 0.95
    assert abs(hits.random_hits - hits.chance) < 0.1
    assert hits.by_class.keys() == {"day", "night"}
    assert hits.flipped + hits.others == sum(found.shapes for found in hits.by_class.values())


def test_faithfulness__too_few_images_is_said(beacons, few_passes):
    result = yolo_mha.faithfulness("demo-mha.pt", beacons, detections=2, head=0, drise=0)
    assert [judgement.word for judgement in result.judgements.values()] == ["unknown", "unknown"]
    assert result.beacon_hits is None
    assert "[" not in Path(result.outputs["report"]).read_text().partition("<table>")[2]


@pytest.mark.slow
def test_faithfulness__groups_are_resampled(beacons, few_passes):
    table = Path("groups.csv")
    table.write_text("image,group\n" + "".join(f"{i:04}.png,{'day' if i % 2 else 'night'}\n" for i in range(8)))
    result = yolo_mha.faithfulness("demo-mha.pt", beacons, detections=12, head=0, drise=0, group=table)
    assert (result.images, result.groups) == (3, 2)
    assert "2 groups (3 images) are too few" in result.judgements["effect"].sentence
    assert "images of 2 groups" in Path(result.outputs["report"]).read_text()


def test_summed_up__groups_that_are_alike_make_intervals_wider():
    groups, rng = np.repeat(np.arange(12), 5), np.random.default_rng(0)
    values = np.repeat(rng.normal(0.5, 0.1, 12), 5)
    names = [*((kind, "correlation") for kind in KINDS)]
    names += [(name, measure) for name in (*KINDS, *RIVALS) for measure in ("deletion", "insertion", "pointing")]
    table = dict.fromkeys(names, values)

    def width(units: np.ndarray | None) -> float:
        found = _summed_up(table, np.arange(60), units, 0, {}).maps["effect"].deletion
        return found.high - found.low

    assert width(groups) > 1.8 * width(None)


def test_faithfulness__nothing_detected(beacons, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", f"data={beacons}", "conf=0.9999"])
    assert stop.value.code == 0
    assert "Nothing was detected in these images" in capsys.readouterr().out


def test_faithfulness__a_gate_of_zero_has_a_map_that_depends_on_nothing(beacons, few_passes):
    model = YOLO("demo-mha.pt")
    nn.init.zeros_(model.model.model[5].gate.weight)
    nn.init.zeros_(model.model.model[5].gate.bias)
    model.save("shut.pt")
    result = yolo_mha.faithfulness("shut.pt", beacons, detections=1, conf=0.05, drise=0)
    assert result.maps["effect"].correlation == 0
    assert result.no_effect == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["data=beacons", "source=x.png"], "source cannot be combined with data."),
        (["data=beacons", "box=1,2,3,4"], "box cannot be combined with data."),
        (["source=x.png", "detections=9"], "detections needs data."),
        (["data=nowhere.yaml"], "Dataset YAML not found."),
        (["data=beacons", "detections=0"], "detections must be a whole number."),
        (["data=beacons", "classes=night"], "classes are given by index."),
        (["data=beacons", "classes=7"], "The model has no such class."),
        (["data=beacons", "vid_stride=2"], "explain does not take vid_stride."),
    ],
    ids=" ".join,
)
def test_faithfulness__bad_input(words, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", *words])
    assert stop.value.code == 2
    assert problem in capsys.readouterr().err
    assert not Path("runs/explain").exists()


def test_faithfulness__a_model_of_other_classes(beacons):
    with pytest.raises(DataError, match="classes are not the dataset's"):
        yolo_mha.faithfulness("yolov8n-mha-p4p5.yaml", beacons)


def test_faithfulness__a_model_without_blocks(beacons):
    with pytest.raises(ConfigError, match="no attention blocks that can be recorded"):
        yolo_mha.faithfulness("demo-baseline.pt", beacons)
