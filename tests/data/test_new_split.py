from collections import Counter

import numpy as np
import pytest

from yolo_mha.data.new_split import check_ratios, stratified
from yolo_mha.errors import ConfigError, DataError

SHARES = (0.8, 0.1, 0.1)


def made_up(count: int, seed: int) -> list[set[str]]:
    """Classes of images, some frequent, some rare, and some images without any."""
    rng = np.random.default_rng(seed)
    chances = {"a": 0.7, "b": 0.3, "c": 0.1, "d": 0.02, "e": 0.01}
    return [{name for name, chance in chances.items() if rng.random() < chance} for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_stratified__every_class_has_its_share_everywhere(seed):
    classes = made_up(1000, seed)
    parts = stratified(classes, range(1000), SHARES, seed)
    assert np.abs(np.bincount(parts) - [800, 100, 100]).max() <= 10
    for name in "abcde":
        counts = np.bincount([p for p, own in zip(parts, classes, strict=True) if name in own], minlength=3)
        assert np.abs(counts - np.multiply(SHARES, counts.sum())).max() <= max(2, 0.015 * counts.sum()), name
    background = np.bincount([p for p, own in zip(parts, classes, strict=True) if not own], minlength=3)
    assert np.abs(background - np.multiply(SHARES, background.sum())).max() <= 3


def test_stratified__is_closer_than_chance():
    """Deviation of the rare classes from their shares, beside that of random splits of the same sizes."""
    classes = made_up(1000, 5)
    rng = np.random.default_rng(0)

    def deviation(parts: np.ndarray) -> float:
        counts = np.array(
            [[sum(n in c and p == k for c, p in zip(classes, parts, strict=True)) for k in range(3)] for n in "cde"]
        )
        return float(np.abs(counts - counts.sum(1, keepdims=True) * SHARES).sum())

    own = stratified(classes, range(1000), SHARES, 0)
    assert deviation(own) < min(deviation(rng.permutation(own)) for _ in range(20))


def test_stratified__keeps_groups_whole():
    classes = made_up(600, 1)
    groups = [i // 6 for i in range(600)]
    parts = stratified(classes, groups, SHARES, 0)
    assert (
        max(
            Counter(
                groups[i] for i in {(g, p): i for i, (g, p) in enumerate(zip(groups, parts, strict=True))}.values()
            ).values()
        )
        == 1
    )
    assert np.abs(np.bincount(parts) - [480, 60, 60]).max() <= 12


def test_stratified__seed_decides():
    classes = made_up(200, 2)
    first, again, other = (stratified(classes, range(200), SHARES, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("count", [3, 4, 7])
def test_stratified__leaves_no_part_empty(count):
    parts = stratified([{"a"}] * count, range(count), SHARES, 0)
    assert set(parts) == {0, 1, 2}


def test_stratified__needs_a_group_for_each_part():
    with pytest.raises(DataError, match="too few images"):
        stratified([{"a"}] * 9, [0] * 5 + [1] * 4, SHARES, 0)


@pytest.mark.parametrize(
    "ratios", [0.8, "0.8", (0.8,), (0.8, 0.1), (0.9, 0.2), (1, 0), (0, 1), (0.5, 0.5, True), (1.2, -0.2)]
)
def test_check_ratios__refuses(ratios):
    with pytest.raises(ConfigError, match="ratios"):
        check_ratios(ratios)


def test_check_ratios__takes_two_or_three():
    assert check_ratios((0.8, 0.2)) == (0.8, 0.2)
    assert check_ratios([0.7, 0.2, 0.1]) == (0.7, 0.2, 0.1)
