import pytest

from yolo_mha.evaluation.figures import figure, figures, heading, size
from yolo_mha.scoring.intervals import Interval


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.05, "+0.050"),
        (-0.0104, "-0.0104"),  # beyond the margin
        (0.00996, "+0.00996"),  # within it
        (0.01, "+0.010"),
        (0.01 + 1e-17, "+0.010"),
        (0.0004, "+0.0004"),
        (-0.0000012, "-0.000001"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (1e-17, "0.000"),
    ],
)
def test_figure__keeps_its_side_of_zero_and_of_the_margin(value, written):
    assert figure(value, margin=0.01) == written


def test_size__of_something_is_not_nothing():
    assert [size(value) for value in (0.0123, 0.00004, 0.0)] == ["0.012", "0.00004", "0.000"]


def test_figures__without_spread_have_no_interval():
    assert figures(Interval(0.0, 0.0, 0.0, "seeds and images", 3, 40, 0.0, 0.0, 0.0), 0.01) == ("0.000", "no interval")
    given = Interval(0.01, -0.0002, 0.0202, "seeds and images", 3, 40, 0.01, 0.0, 0.03)
    assert figures(given, 0.01) == ("+0.010", "-0.0002 to +0.020")


@pytest.mark.parametrize(
    ("scopes", "words"),
    [
        (["seeds and images"], "95 % interval"),
        (["images", "images"], "95 % interval, images only"),
        (["images", "seeds and images"], "95 % interval, images only below 3 seeds"),
        ([], "95 % interval"),
    ],
)
def test_heading__says_what_intervals_are_about(scopes, words):
    intervals = [Interval(0.0, -0.1, 0.1, scope, 3, 40, 0.01, 0.005, None) for scope in scopes]
    assert heading([*intervals, None]) == words
