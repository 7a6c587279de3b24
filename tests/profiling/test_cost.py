import time

import pytest
import torch

import yolo_mha
from yolo_mha.profiling import cost


@pytest.mark.parametrize("size", [192, 384])
def test_count_gflops__attention_grows_with_the_square_of_the_pixels(size):
    """The block's own operations, from its equations: projections 8 N C^2, attention 4 N^2 C, in multiply-adds x 2."""
    base, attention = (yolo_mha.YOLO(f"demo-{m}.yaml").model for m in ("baseline", "mha"))
    n, c = (size // 8) ** 2, 64
    expected = (8 * n * c**2 + 4 * n**2 * c) / 1e9
    assert cost.count_gflops(attention, size) - cost.count_gflops(base, size) == pytest.approx(expected, rel=1e-6)


class _Slow(torch.nn.Module):
    """A backend that takes a given time."""

    def __init__(self, model, **_):
        super().__init__()
        self.seconds = model.seconds

    def forward(self, x):
        time.sleep(self.seconds)


def test_measure__ratio_is_to_the_first(monkeypatch):
    models = {name: yolo_mha.YOLO("demo-baseline.yaml").model for name in ("fast", "slow")}
    models["fast"].seconds, models["slow"].seconds = 0.005, 0.02
    monkeypatch.setattr(cost, "AutoBackend", _Slow)
    costs = cost.measure(models, 64)
    assert costs["fast"].latency_ratio == 1
    assert 2 < costs["slow"].latency_ratio < 5
    slow = costs["slow"]
    assert slow.latency_ms == pytest.approx(costs["fast"].latency_ms * slow.latency_ratio, rel=1e-12)
    assert slow.ratio_range[0] <= slow.latency_ratio <= slow.ratio_range[1]
    assert costs["fast"].ratio_range == (1, 1)


def test_measure__leaves_the_models_as_they_were():
    model = yolo_mha.YOLO("demo-mha.yaml").model
    costs = cost.measure({"a": model, "b": model}, 64)
    assert not model.is_fused()
    assert costs["a"].parameters == sum(p.numel() for p in model.parameters())
