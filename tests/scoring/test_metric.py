"""Names of metrics."""

import pytest

from yolo_mha.errors import ConfigError
from yolo_mha.scoring.metric import classes_of, require_metric


@pytest.mark.parametrize(
    ("metric", "classes"),
    [
        ("AP", []),
        ("AP[pool, lane]", ["pool", "lane"]),
        ('AP["stop, damaged",lane]', ["stop, damaged", "lane"]),
        ('AP[lane, "stop, damaged"]', ["lane", "stop, damaged"]),
        ('AP[12" pipe]', ['12" pipe']),
        ("AP[lane,lane,pool]", ["lane", "pool"]),
    ],
)
def test_classes_of__are_those_in_brackets(metric, classes):
    assert classes_of(metric) == classes
    require_metric(metric, classes)


@pytest.mark.parametrize("metric", ["AP[]", "ap", "AP[a,]", "AP[a,,b]", "AP[c]"])
def test_require_metric__refuses_others(metric):
    with pytest.raises(ConfigError, match=r"No such metric|has no class"):
        require_metric(metric, ["a", "b"])
