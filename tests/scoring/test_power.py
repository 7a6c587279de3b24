import math

import numpy as np
import pytest
from scipy import stats

from yolo_mha.scoring.power import (
    ALPHA,
    MOST_SEEDS,
    Spread,
    power,
    power_to_exclude,
    quantile,
    seeds_needed,
    smallest_detectable,
)


def outcomes(spread: Spread, seeds: int, difference: float, count: int = 100_000):
    """Differences and half-widths as experiments would give them."""
    rng = np.random.default_rng(0)
    found = difference + math.hypot(spread.sd_seeds / math.sqrt(seeds), spread.se_images) * rng.standard_normal(count)
    by_seed = spread.sd_seeds**2 / seeds * rng.chisquare(seeds - 1, count) / (seeds - 1)
    by_image = spread.se_images**2 * rng.chisquare(spread.df, count) / spread.df
    return found, np.sqrt(quantile(seeds - 1) ** 2 * by_seed + quantile(spread.df) ** 2 * by_image)


SPREADS = (Spread(0.01, 0.0, 71), Spread(0.01, 0.004, 71), Spread(0.004, 0.01, 9.5))


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("spread", SPREADS)
def test_power__is_how_often_experiments_leave_zero_out(spread, seeds):
    for difference in (0.0, 0.01, 0.03):
        found, half = outcomes(spread, seeds, difference)
        assert power(spread, seeds, difference) == pytest.approx(np.mean(abs(found) > half), abs=0.006)


@pytest.mark.parametrize("spread", SPREADS)
def test_power_to_exclude__is_how_often_experiments_end_within_the_margin(spread):
    for seeds, margin in ((3, 0.03), (10, 0.03), (10, 0.005)):
        found, half = outcomes(spread, seeds, 0.0)
        within = (abs(found) <= half) & (abs(found) + half <= margin)
        assert power_to_exclude(spread, seeds, margin) == pytest.approx(np.mean(within), abs=0.006)


def test_power__is_that_of_students_t_where_images_add_nothing():
    """And of the noncentral t, not of a shifted one, with which three seeds find 0.77 in place of 0.8."""
    noncentral = 0.03 / 0.01 * math.sqrt(3)
    exact = stats.nct.sf(stats.t.ppf(0.975, 2), 2, noncentral) + stats.nct.cdf(-stats.t.ppf(0.975, 2), 2, noncentral)
    assert power(Spread(0.01, 0.0, 50), 3, 0.03) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("spread", SPREADS)
def test_smallest_detectable__is_found_with_probability_four_fifths(spread):
    for seeds in (3, 5, 30):
        assert power(spread, seeds, smallest_detectable(spread, seeds)) == pytest.approx(0.8, abs=1e-6)
    assert smallest_detectable(spread, 3) > smallest_detectable(spread, 30)
    assert smallest_detectable(spread, 3, by_seed=0.01) > smallest_detectable(spread, 3)


def test_smallest_detectable__of_no_spread_is_zero():
    assert smallest_detectable(Spread(0.0, 0.0, 10), 3) == 0.0


def test_seeds_needed__is_the_first_number_that_is_enough():
    spread = Spread(0.01, 0.001, 99)
    number = seeds_needed(spread, 0.01)
    assert power(spread, number, 0.01) >= 0.8 > power(spread, number - 1, 0.01)
    assert seeds_needed(spread, 0.02) < number
    assert seeds_needed(Spread(0.0, 0.01, 99), 0.01) is None
    assert seeds_needed(Spread(0.0, 0.0, 99), 0.01) == 3


def test_upper__is_above_the_true_spread_in_four_pilots_of_five():
    rng = np.random.default_rng(0)
    estimates = np.sqrt(rng.chisquare(2, 20_000) / 2)
    above = [Spread(sd, 0.0, 50, pilot=3).upper.sd_seeds >= 1 for sd in estimates]
    assert np.mean(above) == pytest.approx(0.8, abs=0.01)
    known = Spread(0.01, 0.0, 50)
    assert known.upper == known


@pytest.mark.slow
def test_upper__says_with_four_fifths_how_many_seeds_are_enough():
    """Fourteen or so are truly needed; pilots of three seeds say four to twenty-eight."""
    true = Spread(0.0124, 0.0, 50)
    truth = seeds_needed(true, 0.01)
    rng = np.random.default_rng(1)
    pilots = [Spread(0.0124 * math.sqrt(v), 0.0, 50, pilot=3) for v in rng.chisquare(2, 400) / 2]
    plain, upper = (
        [seeds_needed(s, 0.01) or MOST_SEEDS + 1 for s in own] for own in (pilots, [p.upper for p in pilots])
    )
    assert truth in range(13, 16)
    assert np.percentile(plain, 10) < 6
    assert np.mean(np.array(plain) >= truth) < 0.5
    assert np.mean(np.array(upper) >= truth) == pytest.approx(0.8, abs=0.06)


def test_half_width__joins_both_parts():
    spread = Spread(0.02, 0.01, 40)
    by_seed, by_image = stats.t.ppf(0.975, 3) * 0.02 / 2, stats.t.ppf(0.975, 40) * 0.01
    assert spread.half_width(4) == pytest.approx(math.hypot(by_seed, by_image))
    assert spread.half_width(4, by_seed=ALPHA / 2) > spread.half_width(4)
