"""What tests of exports share."""

import pytest


@pytest.fixture
def small_sizes(monkeypatch):
    """Prove dynamic exports at smaller sizes than users get; `test_export__dynamic_onnx...` takes those."""
    monkeypatch.setattr("yolo_mha.deploy.proof.DYNAMIC_SIZES", ((96, 96), (90, 160)))
    monkeypatch.setattr("yolo_mha.deploy.proof.ODD_PICTURE", (71, 129))
