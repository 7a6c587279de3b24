import json
import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from reading import state
from ultralytics.nn.tasks import DetectionModel

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.diagnosis import doctor as page
from yolo_mha.diagnosis.data import check_data, class_layers
from yolo_mha.diagnosis.model import check_export, check_heads, check_registration, check_sizes
from yolo_mha.diagnosis.step import Watch, check_step, training_batch
from yolo_mha.errors import CheckpointError, ConfigError, ModelError, UnsupportedTaskError
from yolo_mha.profiling import footprint as doctor_footprint
from yolo_mha.profiling.blocks import block_shares
from yolo_mha.profiling.footprint import Footprint, Step, _Taken, footprints, free_memory, small_batches
from yolo_mha.profiling.probe import made_up_batch
from yolo_mha.profiling.training_case import TrainingCase

SMALL = {"imgsz": 64, "batch": 4, "device": "cpu"}
STEP = Step(100.0, 0.1)


@pytest.fixture
def without_probes(monkeypatch):
    """Leave out the processes that measure a training step, where a test is about something else."""
    fake = Footprint(STEP, STEP, {1: STEP, 2: STEP}, 700.0)
    monkeypatch.setattr(page, "footprints", lambda cases, progress: dict.fromkeys(cases, fake))
    monkeypatch.setattr(page, "check_export", lambda *_: page.Check("export", "skipped", "Not in this test."))


def demo() -> torch.nn.Module:
    """A model with a block at row 5, ready for `check_step`."""
    model = yolo_mha.YOLO("demo-mha.yaml").model
    model.args = page.get_cfg()
    return model


def batch_for(model: torch.nn.Module) -> dict:
    return made_up_batch(2, 64, 3, model, torch.Generator().manual_seed(0))


def case_of(model: str, **settings: object) -> TrainingCase:
    return TrainingCase.of(yolo_mha.YOLO(f"{model}.yaml").model, page.get_cfg(overrides={"device": "cpu", **settings}))


def made_up_steps(cases, probes) -> dict:
    """What `_take` would give where each image needs 10 MiB and 20 ms."""
    return {n: _Taken(Step(100.0 + 10 * p.batch, 0.02 * p.batch), 0.01, 700.0) for n, p in probes.items()}


def by_name(diagnosis) -> dict:
    return {check.name: check for check in diagnosis.checks}


def one_sentence(check) -> None:
    assert check.status == "failed"
    assert check.message.endswith(".")
    assert "\n" not in check.message
    assert check.fix


def call(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


# The page ------------------------------------------------------------------------------------------------------------


def test_doctor__healthy(capsys, beacons, tmp_path, monkeypatch):
    """Steps with the batch itself are taken; those with fewer images are in the tests of footprints."""
    real = doctor_footprint._take

    def take(cases, probes):
        whole = {p.batch for p in probes.values()} == {SMALL["batch"]}
        return real(cases, probes) if whole else made_up_steps(cases, probes)

    monkeypatch.setattr(doctor_footprint, "_take", take)
    monkeypatch.setattr(doctor_footprint, "LEAST_SECONDS", 0)  # times are not looked at
    before = {p: p.stat().st_mtime_ns for p in beacons.parent.rglob("*")}
    words = [f"{k}={v}" for k, v in SMALL.items()]
    code, out, err = call(capsys, "doctor", "model=demo-mha.yaml", f"data={beacons}", *words, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["ok"]
    checks = [c for c in answer["checks"] if c["name"] != "machine"]  # it may be busy, and times are of no use then
    assert [c for c in checks if c["status"] != "ok" and c["name"] != "cost of attention"] == []
    assert [c["name"] for c in checks] == [
        "registration",
        "channels and heads",
        "train images and labels",
        "val images and labels",
        "classes",
        "splits",
        "image sizes",
        "memory",
        "cost of attention",
        "forward and backward",
        "export",
    ]
    assert set(checks[0]) == {"name", "status", "message", "fix", "details"}
    assert set(answer["footprints"]) == set(answer["latency_ms"]) == {"with attention", "without attention"}
    for cost in answer["footprints"].values():
        assert cost["measured"]["mib"] > 0
        assert set(cost["errors"]) == {"mib", "seconds"}
        assert set(cost["probes"]) == {"2", "3"}
    (block,) = answer["blocks"]
    assert (block["row"], block["block"]) == (5, "SpatialMHABlock")
    assert all(0 < block[key] < 1 for key in ("training", "memory", "inference"))
    assert {p: p.stat().st_mtime_ns for p in beacons.parent.rglob("*")} == before
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["datasets"]


def test_doctor__shows_faults_and_fixes_and_exits_with_1(capsys, beacons, tmp_path, without_probes):
    network = yolo_mha.YOLO("demo-mha.yaml")
    with torch.no_grad():
        network.model.model[5].attn.qkv.weight[0] = float("nan")
    network.save(tmp_path / "nan.pt")
    words = [f"{k}={v}" for k, v in SMALL.items()]
    before = state(beacons.parent)
    code, out, _ = call(capsys, "doctor", f"model={tmp_path / 'nan.pt'}", f"data={beacons}", *words)
    assert state(beacons.parent) == before
    assert code == 1
    said = " ".join(out.replace("│", " ").split())
    assert "FAILED" in said
    assert "model.5.attn.qkv (row 5, SpatialMHABlock)" in said
    assert "forward and backward: train from weights without NaN" in said
    assert "training step, memory" in said
    assert "Share of the network" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan.pt", "runs"]


def test_doctor__a_check_that_crashes_hides_no_other(beacons, without_probes, monkeypatch):
    def crash(*_):
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(page, "check_sizes", crash)
    checks = by_name(page.doctor("demo-mha.yaml", beacons, **SMALL))
    one_sentence(checks["image sizes"])
    assert "nobody foresaw this" in checks["image sizes"].message
    assert [c.name for c in checks.values() if c.status == "failed"] == ["image sizes"]
    assert checks["memory"].status == "ok"


def test_doctor__without_data_and_without_blocks(without_probes):
    diagnosis = page.doctor("demo-baseline.yaml", **SMALL)
    checks = by_name(diagnosis)
    assert diagnosis.ok
    assert checks["registration"].status == "warning"
    assert "No attention block" in checks["registration"].message
    assert checks["dataset"].status == "skipped"
    assert checks["forward and backward"].status == "ok"
    assert "4 made-up images" in checks["forward and backward"].message
    assert list(diagnosis.footprints) == ["without attention"]


def test_doctor__examines_what_train_at_would_train(without_probes):
    diagnosis = yolo_mha.doctor("demo-baseline.yaml", imgsz=64, batch=2, at="neck", num_heads=2)
    heads = next(c for c in diagnosis.checks if c.name == "channels and heads")
    assert heads.details["blocks"][0]["heads"] == 2
    with pytest.raises(ConfigError, match="no such level"):
        yolo_mha.doctor("demo-baseline.yaml", imgsz=64, at="P9")


@pytest.mark.parametrize("model", ["demo-mha.yaml", "gray.pt"])
def test_doctor__gray_images(beacons, tmp_path, without_probes, monkeypatch, model):
    content = yaml.safe_load(beacons.read_text()) | {"path": str(beacons.parent), "channels": 1}
    (tmp_path / "gray.yaml").write_text(yaml.safe_dump(content))
    gray = yolo_mha.YOLO("demo-mha.yaml")
    gray.model = DetectionModel(gray.model.yaml, ch=1, nc=3, verbose=False)
    gray.save(tmp_path / "gray.pt")
    channels, real = [], page.check_step

    def step(network, batch, *rest):
        channels.append((network.yaml["channels"], batch["img"].shape[1]))
        return real(network, batch, *rest)

    monkeypatch.setattr(page, "check_step", step)
    checks = by_name(page.doctor(model, tmp_path / "gray.yaml", **SMALL))
    assert [c for c in checks.values() if c.status == "failed"] == []
    assert channels == [(1, 1)]


def test_doctor__model_that_does_not_build(beacons, tmp_path):
    (tmp_path / "heads.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, SpatialMHABlock, [5]]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    checks = by_name(page.doctor(tmp_path / "heads.yaml", beacons, **SMALL))
    one_sentence(checks["model"])
    assert "5 heads do not divide the 16 channels" in checks["model"].message
    assert "choose one of these" in checks["model"].fix
    assert checks["train images and labels"].status == "ok"


def test_doctor__other_classes_than_the_checkpoint(beacons, trained, tmp_path, without_probes):
    content = yaml.safe_load(beacons.read_text()) | {"path": str(beacons.parent), "names": ["day", "x", "y", "z"]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    checks = by_name(page.doctor(trained, tmp_path / "other.yaml", **SMALL))
    said = checks["classes of the checkpoint"].message
    assert "3 classes and the dataset 4" in said
    assert "anew, apart from those of classes with the same name, 1" in said
    assert checks["forward and backward"].status == "ok", checks["forward and backward"].message
    checks = by_name(page.doctor(trained, tmp_path / "other.yaml", **SMALL, cls_remap=False))
    assert "apart from" not in checks["classes of the checkpoint"].message


ANEW = "the last layers of the head begin anew"
TAKEN_OVER = "the class layers are taken over as they are, in the order of the classes, although the names differ"


@pytest.mark.parametrize(
    ("own", "taken", "said"),
    [
        (["cat", "dog", "fish"], [0, 1, 2], TAKEN_OVER),
        (["cat", "dog"], [None, None], ANEW),
        (["Night ", "cat", "DAY"], [1, None, 0], f"{ANEW}, apart from those of classes with the same name, 2"),
        ([" Day", "NIGHT", "beacon"], [0, 1, 2], None),
    ],
    ids=str,
)
def test_class_layers__are_what_ultralytics_makes_of_them(own, taken, said):
    source = yolo_mha.YOLO("demo-mha.pt").model.float()
    assert list(source.names.values()) == ["day", "night", "beacon"]
    made = DetectionModel(source.yaml, nc=len(own), verbose=False)
    made.names = dict(enumerate(own))
    made.load(source, verbose=False)
    rows, theirs = (model.model[-1].cv3[0][-1].weight for model in (made, source))
    found = [next((i for i, other in enumerate(theirs) if torch.equal(row, other)), None) for row in rows]
    assert found == taken
    assert class_layers(source.names, made.names) == said


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, TypeError),
        ({"model": "nowhere.yaml"}, ModelError),
        ({"model": "nowhere.pt"}, CheckpointError),
        ({"model": "demo-mha.yaml", "epoch": 3}, ConfigError),
        ({"model": "demo-mha.yaml", "batch": -1}, ConfigError),
        ({"model": "demo-mha.yaml", "imgsz": [64, 96]}, ConfigError),
        ({"model": "demo-mha.yaml", "device": "0,1"}, ConfigError),
        ({"model": "yolov8n-seg.yaml"}, UnsupportedTaskError),
    ],
)
def test_doctor__refuses_bad_input(arguments, error):
    with pytest.raises(error):
        page.doctor(**arguments)


# The model -----------------------------------------------------------------------------------------------------------


def test_check_heads__says_tokens_and_warns_of_many():
    model = demo()
    check = check_heads(model, 192)
    assert check.status == "ok"
    expected = {"row": 5, "stride": 8, "tokens": 576, "channels": 64, "heads": 2, "head_dim": 32}
    assert check.details["blocks"] == [{**expected, "pairs": 576**2}]
    assert check_heads(model, 632).status == "ok"
    check = check_heads(model, 640)
    assert check.status == "warning"
    assert "41 million pairs" in check.message
    assert "scope=window" in check.fix


@pytest.mark.parametrize("placement", ["p3", "cross", "p4kv-p5"])
def test_check_heads__counts_the_pairs_of_the_scope(placement):
    check = check_heads(yolo_mha.YOLO(f"yolov8n-mha-{placement}.yaml").model, 640)
    assert check.status == "ok"
    pairs = {"p3": [6400 * 100], "cross": [6400 * 400], "p4kv-p5": [1600 * 400, 400**2]}[placement]
    assert [block["pairs"] for block in check.details["blocks"]] == pairs
    assert all(block["head_dim"] == 32 for block in check.details["blocks"])


class SquareOnly(torch.nn.Module):
    """A block that mixes up height and width."""

    def __init__(self, dim, *_, **__):
        super().__init__()

    def forward(self, x):
        return x + 0 * x.transpose(2, 3)


@pytest.fixture
def square_only(monkeypatch):
    from yolo_mha import registry

    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))
    yolo_mha.register(SquareOnly)
    yield
    delattr(registry.tasks, "SquareOnly")


def test_check_sizes__a_block_for_square_maps_is_named(square_only, tmp_path):
    text = Path(yolo_mha.paths.find_cfg("models", "demo-mha.yaml")).read_text()
    (tmp_path / "square.yaml").write_text(text.replace("SpatialMHABlock", "SquareOnly"))
    check = check_sizes(yolo_mha.YOLO(tmp_path / "square.yaml").model, 64)
    one_sentence(check)
    assert "40x64 (rect) stops in model.5 (row 5, SquareOnly)" in check.message
    assert "must match" in check.message


def test_check_sizes__leaves_the_model_as_it_was():
    model = demo().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert check_sizes(model, 64).status == "ok"
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_check_registration__names_rows_and_classes():
    check = check_registration(yolo_mha.YOLO("demo-mha.yaml"))
    assert check.details["rows"] == {5: "yolo_mha.nn.block.SpatialMHABlock"}
    assert "restricted mode" in check.message


class Helper(torch.nn.Module):
    """A part that nobody registered."""


def test_check_registration__a_part_that_nobody_registered():
    network = yolo_mha.YOLO("demo-mha.yaml")
    network.model.model[5].extra = Helper()
    check = check_registration(network)
    one_sentence(check)
    assert "Helper" in check.message
    assert "parts=" in check.fix
    assert check_registration(network, trust=True).status == "warning"


def test_check_export__missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("yolo_mha.deploy.export_settings.find_spec", lambda name: None)
    check = check_export(yolo_mha.YOLO("demo-mha.yaml"), 64, False)
    assert (check.status, check.fix) == ("skipped", "pip install 'yolo-mha[export]'")


# One step ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_check_step__weights_that_are_broken_are_located(value):
    model = demo()
    with torch.no_grad():
        model.model[5].attn.proj.weight[3] = value
    check = check_step(model, batch_for(model), "bfloat16", True)
    one_sentence(check)
    assert "model.5.attn.proj (row 5, SpatialMHABlock), whose weight holds it already" in check.message
    json.dumps(asdict(check), allow_nan=False)


def test_check_step__an_overflow_is_located_and_one_of_float16_foreseen():
    model = demo()
    with torch.no_grad():
        model.model[5].gate.weight.fill_(1e6)
    check = check_step(model, batch_for(model), "bfloat16", True)
    assert check.status == "warning"
    assert "model.5.gate (row 5, SpatialMHABlock) reaches" in check.message
    assert "beyond float16's range" in check.message
    with torch.no_grad():
        model.model[5].gate.weight.fill_(3e38)
    check = check_step(model, batch_for(model), "float32", False)
    one_sentence(check)
    assert "in model.5.gate (row 5, SpatialMHABlock)." in check.message


class Rooted(torch.nn.Module):
    """Finite forward, infinite backward: the slope of a square root at zero."""

    def forward(self, x):
        return x + (x * 0).abs().sqrt()


def test_check_step__a_gradient_that_is_not_finite_is_located():
    model = demo()
    model.model[5].gate = torch.nn.Sequential(model.model[5].gate, Rooted())
    check = check_step(model, batch_for(model), "float32", False)
    one_sentence(check)
    assert "model.5.gate.0.bias (row 5, SpatialMHABlock) a gradient of NaN" in check.message


class Pair(torch.nn.Module):
    """Two outputs, and NaN in the second alone."""

    def forward(self, x):
        return x, x * float("nan")


def test_watch__looks_at_every_output():
    model = torch.nn.Sequential(Pair())
    with Watch(model) as watch:
        model(torch.ones(1))
    assert watch.fault == "0"


def test_watch__leaves_no_hooks():
    model = demo().eval()
    with Watch(model) as watch, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert watch.fault is None
    assert watch.inside == []
    assert watch.largest[0] > 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_training_batch__is_real_and_writes_nothing(beacons):
    dataset = load_dataset(beacons)
    before = sorted(beacons.parent.rglob("*"))
    case = case_of("demo-mha", imgsz=90, batch=3)
    batch = training_batch(dataset, read_split(dataset, "train"), case, 3)
    assert batch["img"].shape == (3, 3, 96, 96)
    assert 0 <= batch["img"].min() < batch["img"].max() <= 1
    assert len(batch["cls"]) == len(batch["bboxes"]) > 0
    assert sorted(beacons.parent.rglob("*")) == before


# The dataset ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(beacons, tmp_path) -> Path:
    """A copy of the dataset, to be damaged."""
    shutil.copytree(beacons.parent, tmp_path / "copied")
    return tmp_path / "copied"


def examine(folder: Path) -> dict:
    checks, _ = check_data(load_dataset(folder / "data.yaml"), ("train", "val"), lambda items, *_: items)
    return {check.name: check for check in checks}


def test_check_data__class_out_of_range(copied):
    label = min((copied / "labels" / "train").iterdir())
    label.write_text("7 .5 .5 .2 .2\n")
    checks = examine(copied)
    one_sentence(checks["train images and labels"])
    assert f"{label}: class 7, and the last is 2" in checks["train images and labels"].message
    assert checks["val images and labels"].status == "ok"


def test_check_data__missing_labels(copied):
    labels = sorted((copied / "labels" / "train").iterdir())
    labels[0].unlink()
    labels[1].rename(labels[1].with_name("other.txt"))
    check = examine(copied)["train images and labels"]
    assert check.status == "warning"
    assert "2 (12%) without a label file" in check.message
    assert "1 label files without an image, such as other.txt" in check.message
    shutil.rmtree(copied / "labels" / "train")
    check = examine(copied)["train images and labels"]
    one_sentence(check)
    assert "No train image has a label" in check.message


def test_check_data__duplicate_stems(copied):
    image = min((copied / "images" / "train").iterdir())
    cv2.imwrite(str(image.with_suffix(".jpg")), np.zeros((64, 64, 3), np.uint8))
    check = examine(copied)["train images and labels"]
    one_sentence(check)
    assert f"{image.stem}.jpg and {image.stem}.png" in check.message
    assert "rename" in check.fix


def test_check_data__an_image_in_both_splits(copied):
    for kind in ("images", "labels"):
        shutil.copy(min((copied / kind / "train").iterdir()), min((copied / kind / "val").iterdir()))
    check = examine(copied)["splits"]
    assert check.status == "warning"
    assert "1 val images are also in train" in check.message


def test_check_data__says_that_only_equal_files_are_looked_for(copied):
    said = "No val file is, byte for byte, also in train; yolo-mha data finds near duplicates."
    assert examine(copied)["splits"].message == said


def test_check_data__a_split_given_twice_is_checked_once(copied):
    checks, _ = check_data(load_dataset(copied / "data.yaml"), ("train", "train"), lambda items, *_: items)
    assert [check.name for check in checks] == ["train images and labels", "classes"]


def test_check_data__a_class_without_objects(copied):
    content = yaml.safe_load((copied / "data.yaml").read_text())
    (copied / "data.yaml").write_text(yaml.safe_dump(content | {"names": ["day", "night", "beacon", "ghost"]}))
    check = examine(copied)["classes"]
    assert check.status == "warning"
    assert "1 of 4 classes have no object in train: ghost" in check.message


# Memory and time -----------------------------------------------------------------------------------------------------


def test_small_batches__are_smaller_than_what_is_asked_for():
    assert small_batches(640, 16) == (1, 2)
    assert small_batches(64, 4) == (2, 3)
    for imgsz in (64, 96, 192, 320, 640):
        for batch in range(3, 40):
            first, second = small_batches(imgsz, batch)
            assert 1 <= first < second < batch
    assert small_batches(32, 2)[0] == 2


def test_footprint__largest_batch_fits_and_one_more_does_not():
    probes = {1: Step(150.0, 0.1), 2: Step(200.0, 0.2)}
    found = Footprint(Step(1000.0, 1.0), Step(900.0, 2.0), probes, 700.0)
    assert found.errors == pytest.approx({"mib": 1 / 9, "seconds": -0.5})
    free = 2000.0
    batch = found.largest_batch(free)
    needed = [doctor_footprint.RESERVE * (700 + 100 + 50 * b) for b in (batch, batch + 1)]
    assert needed[0] <= free < needed[1]
    assert found.largest_batch(100) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("model", "imgsz", "batch"), [("demo-mha", 192, 8), ("yolov8n-mha-p5", 320, 6)])
def test_footprints__estimate_is_near_the_measurement(model, imgsz, batch):
    found = footprints({"it": case_of(model, imgsz=imgsz, batch=batch)})["it"]
    assert abs(found.errors["mib"]) < 0.15, found
    assert found.measured.mib > max(step.mib for step in found.probes.values())
    assert found.base_mib > 100


def test_footprints__memory_is_that_of_the_largest_size_and_time_that_of_imgsz(monkeypatch):
    monkeypatch.setattr(doctor_footprint, "LEAST_SECONDS", 0)
    cases = {str(scale): case_of("demo-baseline", imgsz=192, batch=2, multi_scale=scale) for scale in (0.0, 1.0)}
    probes = {name: doctor_footprint._probe(case, Path(f"{name}.pt")) for name, case in cases.items()}
    one, many = (doctor_footprint._take(cases, probes)[name].step for name in cases)
    assert many.mib > 2 * one.mib
    assert many.seconds < 2 * one.seconds


def test_doctor__a_batch_that_does_not_fit_is_refused_without_being_allocated(monkeypatch):
    taken = []

    def take(cases, probes):
        taken.extend(p.batch for p in probes.values())
        return made_up_steps(cases, probes)

    monkeypatch.setattr(doctor_footprint, "_take", take)
    monkeypatch.setattr(page, "free_memory", lambda device: 4000.0)
    monkeypatch.setattr(page, "check_export", lambda *_: page.Check("export", "skipped", "Not in this test."))
    diagnosis = page.doctor("demo-baseline.yaml", imgsz=192, batch=1_000_000, device="cpu")
    check = by_name(diagnosis)["memory"]
    one_sentence(check)
    assert "A batch of 1000000 at 192 pixels needs about" in check.message
    assert taken == [3, 4]
    assert diagnosis.footprints["without attention"].measured is None
    assert check.fix == f"batch={int((4000 / doctor_footprint.RESERVE - 800) / 10)}"
    assert diagnosis.as_dict()["footprints"]["without attention"]["errors"] is None


@pytest.mark.slow
def test_footprints__a_step_that_fails_is_one_error():
    case = case_of("demo-mha", **SMALL)
    case.model.model[5].attn.qkv = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(yolo_mha.errors.RunError, match="training step failed") as caught:
        footprints({"broken": case})
    assert "ConfigError: The input does not fit this module" in caught.value.given


def test_free_memory__honours_the_limit_of_a_container(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor_footprint, "CGROUP", tmp_path)
    assert free_memory(torch.device("cpu")) > 100
    mib = 2**20
    for name, text in (("max", 90 * mib), ("current", 60 * mib), ("stat", f"anon 5\ninactive_file {10 * mib}")):
        (tmp_path / f"memory.{name}").write_text(str(text))
    assert free_memory(torch.device("cpu")) == 40
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) > 100


def test_block_shares__the_larger_block_has_the_larger_share(tmp_path):
    text = Path(yolo_mha.paths.find_cfg("models", "demo-mha.yaml")).read_text()
    (tmp_path / "mlp.yaml").write_text(text.replace("gate_init: 0.1", "mlp_ratio: 8"))
    (small,) = block_shares(demo(), 192)
    (large,) = block_shares(yolo_mha.YOLO(tmp_path / "mlp.yaml").model, 192)
    assert 0 < small.memory < large.memory < 1
    assert 0 < small.training < large.training < 1
    assert block_shares(yolo_mha.YOLO("demo-baseline.yaml").model, 64) == []


def test_cost__an_expensive_block_is_named(monkeypatch):
    diagnosis = page.Diagnosis()
    steps = {"with attention": Step(300.0, 2.0), "without attention": Step(100.0, 1.0)}
    diagnosis.footprints.update({n: Footprint(s, s, {}, 700.0) for n, s in steps.items()})
    diagnosis.latency_ms.update({"with attention": 11.0, "without attention": 10.0})
    diagnosis.blocks.extend([page.BlockShare(4, "Cheap", 0.1, 0.1, 0.1), page.BlockShare(9, "Dear", 0.4, 0.6, 0.1)])
    (check,) = page._dear(diagnosis)
    assert check.status == "warning"
    assert "Dear in row 9 costs most, up to 60%" in check.message
    assert "training memory x3.00" in check.message
