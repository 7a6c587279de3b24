import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from yolo_mha.scoring.intervals import (
    effective_groups,
    images_needed,
    paired_interval,
    sample,
    score_interval,
)
from yolo_mha.scoring.power import seeds_needed, smallest_detectable


def crossed(seeds: int, images: int, sd: tuple[float, float, float], shift: float = 0.0, seed: int = 0):
    """Differences of a linear model with effects of images, seeds and their interaction, and its resamples."""
    rng = np.random.default_rng(seed)
    by_image, by_seed, both = sd
    effects = shift + by_image * rng.standard_normal((1, images)) + by_seed * rng.standard_normal((seeds, 1))
    effects = effects + both * rng.standard_normal((seeds, images))
    weights = rng.multinomial(images, np.full(images, 1 / images), size=2000).T
    return effects.mean(axis=1), effects @ weights / images


def test_paired_interval__is_the_paired_t_where_images_add_nothing():
    deltas, _ = crossed(5, 50, (0, 0.02, 0), shift=0.03)
    interval = paired_interval(deltas, np.repeat(deltas[:, None], 10, axis=1), 50)
    half = stats.t.ppf(0.975, 4) * deltas.std(ddof=1) / math.sqrt(5)
    assert (interval.low, interval.high) == pytest.approx((deltas.mean() - half, deltas.mean() + half))
    assert interval.se_images == pytest.approx(0, abs=1e-15)
    assert interval.scope == "seeds and images"


def test_paired_interval__is_the_standard_error_over_images_where_seeds_add_nothing():
    deltas, replicates = crossed(5, 200, (0.3, 0, 0))
    interval = paired_interval(deltas, replicates, 200)
    assert interval.sd_seeds == pytest.approx(0, abs=1e-12)
    assert interval.se_images == pytest.approx(0.3 / math.sqrt(200), rel=0.15)
    assert interval.high - interval.delta == pytest.approx(stats.t.ppf(0.975, 199) * interval.se_images)


def test_paired_interval__does_not_take_interaction_for_an_effect_of_images():
    """Averaged over draws, for one estimate of a variance says little."""
    shared = [paired_interval(*crossed(4, 100, (0.1, 0.0, 0.3), seed=s), 100).se_images ** 2 for s in range(60)]
    assert np.mean(shared) == pytest.approx(0.1**2 / 100, rel=0.6)
    assert np.mean(shared) < 0.3**2 / 100 / 4  # what the interaction leaves in a mean of four seeds


@pytest.mark.parametrize("seeds", [1, 2])
def test_paired_interval__of_fewer_than_three_seeds_is_about_images_alone(seeds):
    deltas, replicates = crossed(seeds, 60, (0.2, 0.5, 0))
    interval = paired_interval(deltas, replicates, 60)
    assert interval.scope == "images"
    assert interval.smallest_detectable is None
    assert interval.high - interval.low < 0.3  # the seeds' 0.5 is not in it
    assert (interval.sd_seeds is None) == (seeds == 1)


def test_paired_interval__corrects_the_bootstrap_for_the_number_of_images():
    """A resample of n images spreads by (n - 1) / n of what other images would."""
    deltas, replicates = crossed(1, 12, (0.2, 0.0, 0))
    half = stats.t.ppf(0.975, 11) * math.sqrt(replicates[0].var(ddof=1) * 12 / 11)
    assert paired_interval(deltas, replicates, 12).high == pytest.approx(deltas[0] + half)


def test_paired_interval__leaves_out_resamples_without_objects():
    deltas, replicates = crossed(3, 40, (0.2, 0.1, 0))
    holes = replicates.copy()
    holes[1, ::7] = np.nan
    kept = np.delete(replicates, np.s_[::7], axis=1)
    assert paired_interval(deltas, holes, 40) == paired_interval(deltas, kept, 40)


def test_paired_interval__is_none_where_nothing_can_be_said():
    deltas, replicates = crossed(3, 40, (0.2, 0.1, 0))
    assert paired_interval(deltas[:0], replicates[:0], 40) is None
    assert paired_interval(np.full(3, np.nan), replicates, 40) is None
    assert paired_interval(deltas, replicates, 9) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "sd"),
    [
        (3, (0.05, 0.02, 0.05)),
        (5, (0.3, 0.002, 0.05)),
        (10, (0.15, 0.015, 0.15)),
    ],
)
def test_paired_interval__holds_the_truth_often_enough(seeds, sd):
    """400 experiments: 95 % intervals that cover 93 % miss 28 at most on average; 45 are beyond chance."""
    missed = 0
    for number in range(400):
        interval = paired_interval(*crossed(seeds, 40, sd, shift=0.01, seed=number), 40)
        missed += not interval.low <= 0.01 <= interval.high
    assert missed <= 45


@pytest.mark.slow
def test_smallest_detectable__is_found_in_four_experiments_of_five():
    deltas, replicates = crossed(5, 80, (0.1, 0.02, 0.0), seed=3)
    size = smallest_detectable(paired_interval(deltas, replicates, 80).spread, 5)
    assert size == paired_interval(deltas, replicates, 80).smallest_detectable
    true_size = math.sqrt(0.02**2 / 5 + 0.1**2 / 80)
    found = 0
    for number in range(300):
        interval = paired_interval(*crossed(5, 80, (0.1, 0.02, 0.0), shift=3.6 * true_size, seed=number), 80)
        found += interval.low > 0
    typical = np.median(
        [paired_interval(*crossed(5, 80, (0.1, 0.02, 0.0), seed=n), 80).smallest_detectable for n in range(60)]
    )
    assert typical == pytest.approx(3.6 * true_size, rel=0.25)
    assert 0.65 < found / 300 < 0.95


def test_seeds_needed__fewer_for_a_larger_margin_and_none_where_images_are_too_few():
    interval = paired_interval(*crossed(4, 60, (0.1, 0.03, 0.0), seed=1), 60)
    few, many = seeds_needed(interval.spread, 0.2), seeds_needed(interval.spread, 0.06)
    assert few < many
    assert smallest_detectable(interval.spread, many) <= 0.06 < smallest_detectable(interval.spread, many - 1)
    assert seeds_needed(interval.spread, 0.001) is None
    assert images_needed(interval, 0.001) > 60


SIZES = np.array([2, 4, 6, 8, 10, 12, 14, 16, 18, 20])


def test_effective_groups__are_all_of_them_where_sizes_are_equal_and_fewer_otherwise():
    assert effective_groups(np.full(12, 7)) == pytest.approx(12)
    assert effective_groups(SIZES) == pytest.approx(1540**2 / 405_328)  # sums of squares and of fourth powers
    assert effective_groups(np.array([1] * 30 + [1000])) < 1.01


def test_paired_interval__of_groups_has_the_degrees_of_freedom_of_their_effective_number():
    deltas, replicates = crossed(1, 110, (0.2, 0.0, 0))
    interval = paired_interval(deltas, replicates, 110, SIZES)
    df = effective_groups(SIZES) - 1
    half = stats.t.ppf(0.975, df) * math.sqrt(replicates[0].var(ddof=1) * 10 / 9)
    assert interval.high == pytest.approx(deltas[0] + half)
    assert (interval.images, interval.groups, interval.df) == (110, 10, pytest.approx(df))
    assert interval.sample() == "10 groups (110 images)"
    assert interval.sample(30) == "30 groups (330 images)"


def test_paired_interval__of_fewer_than_ten_groups_is_none():
    deltas, replicates = crossed(3, 110, (0.2, 0.1, 0))
    assert paired_interval(deltas, replicates, 110, SIZES[1:]) is None
    assert paired_interval(deltas, replicates, 110, SIZES) is not None


def test_images_needed__counts_groups_where_groups_are_resampled():
    deltas, replicates = crossed(4, 110, (0.4, 0.01, 0.0), seed=1)
    by_group, by_image = paired_interval(deltas, replicates, 110, SIZES), paired_interval(deltas, replicates, 110)
    assert 10 < images_needed(by_group, 0.05) < images_needed(by_image, 0.05) / 3
    least = smallest_detectable(replace(by_group.spread, sd_seeds=0.0), 4)
    assert images_needed(by_group, 0.05) == math.ceil(10 * (least / 0.05) ** 2)
    assert by_group.smallest_detectable == smallest_detectable(by_group.spread, 4) > least  # and seeds


def test_score_interval__stays_within_0_and_1_and_says_where_there_is_none():
    replicates = np.random.default_rng(0).normal(0.97, 0.03, 500)
    found = score_interval(0.97, replicates, 50)
    assert (found.high, found.images, found.groups) == (1.0, 50, None)
    assert found.low < 0.95
    assert "95 % interval" in found.sentence("AP")
    assert "from 50 images, for these" in found.sentence("AP")
    perfect = score_interval(1.0, np.ones(500), 50)
    assert (perfect.low, perfect.high) == (None, None)
    assert perfect.sentence("AP") == "AP 1.000, no interval: 50 images all give the same"
    few = score_interval(0.97, replicates, 50, SIZES[:7])
    assert (few.low, few.high, few.groups) == (None, None, 7)
    assert few.sentence("AP") == "AP 0.970, no interval: 7 groups (50 images) are too few, 10 or more are needed"


def test_sample__says_images_or_groups_of_them():
    assert sample(1200, None) == "1,200 images"
    assert sample(121, 20) == "20 groups (121 images)"
