"""No regret: with the gate at zero a model with blocks gives what its base gives, bit by bit."""

import copy
import re

import pytest
import torch
from torch import nn

from yolo_mha import SpatialMHABlock
from yolo_mha.registry import build
from yolo_mha.surgery.insertion import Insertion, remove_blocks
from yolo_mha.surgery.places import find_hosts, layers
from yolo_mha.surgery.rows import edit, plan_insertion
from yolo_mha.surgery.transfer import reported

from .conftest import built, built_small, every_detector, lively, one_of_each_other_task, same, small

ROW = Insertion("P5").row


def places(path) -> str:
    feeds_from_p5 = "cls" in path.name  # there the neck is the last layer at P5
    return "P3,P4,P5" if feeds_from_p5 else "P3,P4,P5,neck"


def image(path) -> torch.Tensor:
    size = (192, 128) if "rtdetr" in path.name else (64, 128)  # RT-DETR takes its 300 best of all positions
    return torch.rand(2, 3, *size)


def case(path):
    """Return a model as a case; those most used and one of a task say enough between releases."""
    common = path in one_of_each_other_task() or re.fullmatch(r"yolo(v5|v8|v9c|v10n|11|12|26|v8-rtdetr)", path.stem)
    return pytest.param(path, marks=[] if common else [pytest.mark.slow], id=path.stem)


@pytest.mark.parametrize("path", map(case, [*every_detector(), *one_of_each_other_task()]))
def test_insertion__keeps_every_output(path):
    base = built_small(path)
    hosts = find_hosts(places(path), layers(base))
    plan = plan_insertion(len(base.model), hosts, ROW)
    model = build(edit(small(path), plan))
    for block in (m for m in model.modules() if isinstance(m, SpatialMHABlock)):
        gates = block.gate.weight.clone()
        lively(block)  # all but the gate may be anything
        block.gate.weight.data, block.gate.bias.data = gates, torch.zeros_like(gates)
    with reported() as reports:
        model.load(base, verbose=False)
    assert (reports[0].moved, reports[0].left) == (len(base.state_dict()), {})
    if hasattr(base, "txt_feats"):
        model.txt_feats = base.txt_feats  # World models start with random text
    images = image(path)

    def outputs(network):
        torch.manual_seed(0)
        with torch.no_grad():
            return network(images)

    assert same(outputs(model.eval()), outputs(base.eval())), "eval"
    assert same(outputs(model.train()), outputs(base.train())), "train"
    model, base = model.eval().fuse(verbose=False), base.eval().fuse(verbose=False)
    assert same(outputs(model), outputs(base)), "fused, after the statistics have moved"
    assert len([m for m in model.modules() if isinstance(m, SpatialMHABlock)]) == len(hosts) >= 3


def test_insertion__changes_outputs_once_the_gate_is_open():
    path = next(p for p in every_detector() if p.name == "yolov8.yaml")
    base = built(path).eval()
    model, _ = Insertion("P4").apply(base)
    images = image(path)
    assert same(model(images), base(images))
    next(m for m in model.modules() if isinstance(m, SpatialMHABlock)).gate.weight.data.fill_(0.1)
    assert not same(model(images), base(images))


def test_graft__keeps_layers_attributes_and_the_base():
    base = built(next(p for p in every_detector() if p.name == "yolo11.yaml")).half()
    base.names = {i: f"thing {i}" for i in range(80)}
    before = copy.deepcopy(base.state_dict())
    model, _ = Insertion("P4,P5", options={"num_heads": 2}).apply(base)
    assert model.names == base.names
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert [layer.i for layer in model.model] == list(range(len(base.model) + 2))
    assert [layer.f for layer in base.model] == [row[0] for row in base.yaml["backbone"] + base.yaml["head"]]
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    back, _ = remove_blocks(model)
    assert list(back.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in back.state_dict().items())
    assert back.yaml["head"] == base.yaml["head"]
    assert back.save == base.save


@pytest.mark.parametrize("optimizer", ["AdamW", *(pytest.param(o, marks=pytest.mark.slow) for o in ("SGD", "MuSGD"))])
def test_optimizer__leaves_gates_and_norms_undecayed_and_moves_the_gate(optimizer):
    from types import SimpleNamespace

    from ultralytics.engine.trainer import BaseTrainer

    base = built(next(p for p in every_detector() if p.name == "yolov8.yaml"))
    model, _ = Insertion("P5", options={"mlp_ratio": 1.0}).apply(base)
    model.train().requires_grad_(True)
    trainer = SimpleNamespace(args=SimpleNamespace(), data={"nc": 80})
    made = BaseTrainer.build_optimizer(trainer, model, name=optimizer, lr=0.01, momentum=0.9, decay=0.1)
    block = next(m for m in model.modules() if isinstance(m, SpatialMHABlock))
    decay = {id(p): g["weight_decay"] for g in made.param_groups for p in g["params"]}
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4
    assert {decay[id(p)] for m in norms for p in m.parameters()} == {0.0}
    assert decay[id(block.attn.qkv.weight)] == 0.1
    before = [block.gate.weight.clone(), block.mlp_gate.weight.clone()]
    sum(t.float().square().mean() for t in model(torch.rand(2, 3, 64, 64))["boxes"].unsqueeze(0)).backward()
    made.step()
    assert not torch.equal(block.gate.weight, before[0])
    assert not torch.equal(block.mlp_gate.weight, before[1])
