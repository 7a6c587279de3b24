import json
from dataclasses import asdict
from importlib import metadata

import pytest
import torch
from ultralytics.utils.torch_utils import get_cpu_info

import yolo_mha
from yolo_mha.engine.block_modules import block_sources
from yolo_mha.errors import ConfigError
from yolo_mha.evaluation.run_code import CodeRecord, as_planned, installed, read_code, source_inputs


def test_code_record__writes_sources_and_the_versions_of_all_attempts(beacons, tiny, tmp_path):
    sources = block_sources(yolo_mha.YOLO("demo-mha.yaml").model)
    assert list(sources) == ["SpatialMHABlock"]
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "code.json").write_text(json.dumps({"sources": sources, "versions": {"torch": ["1.0"]}}))
    settings = {**tiny, "project": str(run.parent), "name": run.name, "exist_ok": True}
    yolo_mha.train("demo-mha.yaml", beacons, **settings, callbacks={"on_pretrain_routine_end": CodeRecord(sources)})
    now = installed()
    assert now["torch"] == metadata.version("torch")
    assert asdict(read_code(run)) == {
        "sources": sources,
        "versions": {**{name: [version] for name, version in now.items()}, "torch": ["1.0", now["torch"]]},
        "hardware": {"device": [get_cpu_info()], "driver": [""], "threads": [str(torch.get_num_threads())]},
    }


def test_code_record__refuses_other_code_before_the_first_step(beacons, tiny, tmp_path):
    record = CodeRecord({"SpatialMHABlock": "0" * 64})
    with pytest.raises(ConfigError, match="changed after the comparison was planned") as refused:
        yolo_mha.train("demo-mha.yaml", beacons, **tiny, callbacks={"on_pretrain_routine_end": record})
    assert "SpatialMHABlock of " in refused.value.given
    assert "spatial.py" in refused.value.given
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("code.json"))


def test_source_inputs__have_every_source_of_a_block():
    inputs = source_inputs([{}, {"A": "1", "B": "3"}, {"A": "2"}, {"A": "1"}])
    assert inputs == {"source of A": "1 2", "source of B": "3"}
    assert as_planned({}, {})
    assert as_planned({"A": "2", "B": "3"}, inputs)
    assert not as_planned({"A": "3"}, inputs)
    assert not as_planned({"A": "1"}, {})
