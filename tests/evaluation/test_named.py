import pytest

from yolo_mha.errors import ConfigError
from yolo_mha.evaluation.named import Named, holm, read_contrast

ARMS = ["baseline", "attention", "control"]


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        ("attention", Named("attention", "baseline")),
        ("attention vs control", Named("attention", "control")),
        (" attention vs  control : AP[pool, lane] ", Named("attention", "control", "AP[pool, lane]")),
        ("control: APsmall", Named("control", "baseline", "APsmall")),
    ],
)
def test_read_contrast(text, contrast):
    assert read_contrast(text, ARMS) == contrast


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("attenton", "No arm 'attenton'"),
        ("attention vs attention", "two arms"),
        ("attention: mAP", "No such metric"),
        ("attention: AP[]", "No such metric"),
        ("", "No arm ''"),
    ],
)
def test_read_contrast__refuses(text, words):
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        read_contrast(text, ARMS)


def test_holm__goes_on_until_one_does_not_stand_out():
    assert holm([0.2, 0.6, 0.01]) == pytest.approx([1 / 2, 1, 1 / 3])
    assert holm([0.2, 0.55, 0.6]) == pytest.approx([1 / 3, 1 / 2, 1 / 2])  # one fails, so the next is not tried
    assert holm([0.5, 0.9]) == pytest.approx([1 / 2, 1])
    assert holm([]) == []
