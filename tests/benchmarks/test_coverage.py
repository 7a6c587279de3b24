import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def tool():
    """benchmarks/coverage.py, loaded from its path."""
    spec = importlib.util.spec_from_file_location("coverage_benchmark", TOOL)
    module = sys.modules["coverage_benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["coverage_benchmark"]


def covered(tool, name: str, seeds: int, simulations: int) -> np.ndarray:
    """How often the intervals of each method hold the true difference of the linear model, 0."""
    regime = next(r for r in tool.REGIMES if r.name == name)
    ends = np.array([tool.intervals(number, tool.draw_linear, regime, seeds) for number in range(simulations)])
    return ((ends[..., 0] <= 0) & (ends[..., 1] >= 0)).mean(axis=0)


@pytest.mark.parametrize(
    ("name", "seeds"), [("10 groups", 3), *(pytest.param(f"{n} groups", 10, marks=pytest.mark.slow) for n in (10, 20))]
)
def test_intervals__of_unequal_groups_hold_the_truth_and_without_groups_do_not(tool, name, seeds):
    """200 experiments: 0.93 less two standard errors is 0.895."""
    ours, ignored = covered(tool, name, seeds, 200)
    assert ours >= 0.895
    assert ignored < 0.80


def test_intervals__of_independent_images_hold_the_truth(tool):
    assert covered(tool, "both", 5, 200)[0] >= 0.895


def test_draw_ap__has_groups_of_unequal_size(tool):
    for regime in (r for r in tool.REGIMES if r.in_model("AP")):
        found = tool.draw_ap(regime, 3, 0)
        assert found.deltas.shape == (3,)
        assert len(tool.intervals(0, tool.draw_ap, regime, 3)) == len(tool.methods(regime))
        if not regime.groups:
            assert (found.images, found.sizes) == (tool.IMAGES, None)
            continue
        assert found.by_group.shape == found.by_image.shape == (3, tool.RESAMPLES)
        assert found.sizes.sum() == found.images
        assert (len(found.sizes), found.sizes.min() >= 2, found.sizes.max() <= 20) == (regime.groups, True, True)
        if regime.groups == 10:
            break  # larger ones take long
