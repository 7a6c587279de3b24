from types import SimpleNamespace

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.optim import MuSGD

import yolo_mha
from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.profiling.probe import build_optimizer
from yolo_mha.profiling.training_case import MADE_UP_OBJECTS, TrainingCase, used_images


def case_of(network, samples=(), names=None, channels=None, **settings) -> TrainingCase:
    return TrainingCase.of(network, get_cfg(overrides={"device": "cpu", **settings}), names, samples, channels)


@pytest.fixture(scope="module")
def network():
    return yolo_mha.YOLO("demo-baseline.yaml").model


def test_training_case__is_what_ultralytics_would_train(network, beacons):
    network.requires_grad_(True).eval()
    case = case_of(network, names={0: "day", 1: "night"}, imgsz=90)
    assert (case.imgsz, case_of(network, imgsz=10).imgsz) == (96, 32)
    assert case.model.args.imgsz == 96
    assert case.model.names == {0: "day", 1: "night"}
    assert case.model.model[-1].nc == 2
    assert case.model.training
    assert not network.training
    frozen = [name for name, p in case.model.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(".dfl" in name for name in frozen)
    assert all(p.requires_grad for p in network.parameters())
    weight = "model.0.conv.weight"  # where classes differ, the other weights are the network's
    assert torch.equal(case.model.state_dict()[weight], network.state_dict()[weight])


def test_training_case__has_the_channels_of_the_images(network):
    case = case_of(network, channels=1)
    assert (case.channels, case_of(network).channels, case_of(case.model).channels) == (1, 3, 1)
    assert case.model.model[0].conv.weight.shape[1] == 1
    weight = "model.1.conv.weight"
    assert torch.equal(case.model.state_dict()[weight], network.state_dict()[weight])


@pytest.mark.parametrize(("imgsz", "multi_scale"), [(96, 0.0), (96, 0.1), (64, 0.25), (64, 0.5), (640, 0.5)])
def test_training_case__largest_size_is_that_of_ultralytics(network, monkeypatch, imgsz, multi_scale):
    case = case_of(network, imgsz=imgsz, multi_scale=multi_scale)
    trainer = SimpleNamespace(args=case.args, stride=32, device=torch.device("cpu"))
    monkeypatch.setattr("random.randrange", lambda start, stop: stop - 1)
    batch = {"img": torch.zeros(1, 3, imgsz, imgsz, dtype=torch.uint8)}
    assert DetectionTrainer.preprocess_batch(trainer, batch)["img"].shape[-1] == case.largest_imgsz


def test_training_case__objects_of_a_mosaic_are_of_four_images(network, beacons):
    samples = read_split(load_dataset(beacons), "train")
    most = max(len(s.classes) for s in samples)
    assert case_of(network, samples, mosaic=0.0).objects == most
    assert case_of(network, samples).objects == 4 * most
    assert case_of(network).objects == MADE_UP_OBJECTS


@pytest.mark.parametrize("amp", [True, "bf16", False])
def test_training_case__a_cpu_trains_in_single_precision(network, amp):
    assert case_of(network, amp=amp).precision == "float32"


@pytest.mark.parametrize("nbs", [4, 64])
@pytest.mark.parametrize("epochs", [1000, 1001])
def test_training_case__optimizer_is_the_choice_of_ultralytics(network, epochs, nbs):
    """Ten steps an epoch, the last with half as many images; 10000 is the border."""
    samples = [SimpleNamespace(classes=[0])] * (nbs * 10 - nbs // 2)
    case = case_of(network, samples, batch=4, nbs=nbs, epochs=epochs)
    trainer = SimpleNamespace(args=SimpleNamespace(lr0=0.01), data={})
    chosen = BaseTrainer.build_optimizer(trainer, network, "auto", iterations=10 * epochs)
    assert case.optimizer == type(chosen).__name__ == {1000: "AdamW", 1001: "MuSGD"}[epochs]
    assert case_of(network, samples, epochs=epochs, optimizer="SGD").optimizer == "SGD"


def test_build_optimizer__has_the_state_of_musgd_and_moves_nothing(network):
    model = case_of(network).model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, "MuSGD")
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    optimizer.step()
    assert isinstance(optimizer, MuSGD)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
        buffers = 0 if not p.requires_grad else 2 if p.ndim in (2, 4) else 1
        assert len(optimizer.state.get(p, {})) == buffers, name


def test_used_images__a_share_or_a_count():
    assert used_images(get_cfg(), 16) == 16
    assert used_images(get_cfg(overrides={"fraction": 0.5}), 16) == 8
    assert used_images(get_cfg(overrides={"fraction": 0.5}), 16, "val") == 16
    assert used_images(get_cfg(overrides={"fraction": 0.01}), 16) == 1
    assert used_images(get_cfg(overrides={"fraction": 5}), 16) == 5
    assert used_images(get_cfg(overrides={"fraction": 50}), 16) == 16


def test_training_case__freezes_what_training_would():
    model = yolo_mha.YOLO("demo-mha.yaml").model
    case = TrainingCase.of(model, get_cfg(overrides={"freeze": 6, "device": "cpu", "imgsz": 64}))
    frozen = {int(k.split(".")[1]) for k, p in case.model.named_parameters() if not p.requires_grad}
    assert frozen >= {0, 1, 2, 3, 4, 6}
    assert 5 not in frozen  # the block
