"""Whatever stands in the records of a comparison, it is taken up again, or one record is named."""

import json

import pytest
from hypothesis import given, seed
from inputs import inputs
from mutations import mutated
from test_commands import examples

from yolo_mha.evaluation.declared import read_declarations
from yolo_mha.evaluation.folder import open_folder
from yolo_mha.evaluation.looks import record_look
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.recipe import read_recipe

FEW, MANY = 6, 300
FOLDER, RUN = "runs/compare/r", "arms/baseline/seed0"
TABLE = "epoch,metrics/mAP50-95(B)\n1,0.25\n"
OF_RUN = {
    f"{RUN}.json": {"state": "done", "seconds": 1.5, "resumed": 0, "error": None},
    f"{RUN}/end.json": {"peak_mib": 100.5, "gates": {"1": 0.25}},
    f"{RUN}/code.json": {"sources": {}, "versions": {"torch": ["2.0"]}},
}
RECORDS = ["plan.json", "looks.json", "inputs.json", "recipe.yaml", f"{RUN}/results.csv", *OF_RUN]
COMMAND = ["compare", "recipe=r.yaml", "conclude=True"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> dict[str, bytes]:
    """All files, with those of a comparison of which one run is done."""
    root = tmp_path_factory.mktemp("begun")
    for name, content in inputs().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with open_folder(prepare(read_recipe("r.yaml", {}))) as folder:
            record_look(folder, read_declarations(folder)[-1], {"baseline": [0]})
            (folder / RUN).mkdir(parents=True)
            for name, content in OF_RUN.items():
                (folder / name).write_text(json.dumps(content))
            (folder / RUN / "results.csv").write_text(TABLE)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def attempt(holds, begun, record):
    """Return what is tried of one record."""
    file = f"{FOLDER}/{record}"

    @given(mutated(begun[file].decode()))
    def once(content):
        holds({**begun, file: content}, COMMAND)

    return once


def test_command__with_valid_records(holds, begun, capsys):
    """All of them are read before the weights, which are not there."""
    assert holds(begun, COMMAND) == 2


@pytest.mark.parametrize("record", [*RECORDS[:2], *(pytest.param(r, marks=pytest.mark.slow) for r in RECORDS[2:])])
def test_command__with_faults_in_a_record(holds, begun, record):
    examples(FEW, derandomize=True)(attempt(holds, begun, record))()


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS)
def test_command__with_very_many_faults_in_a_record(holds, begun, record, at_random):
    seed(at_random)(examples(MANY)(attempt(holds, begun, record)))()
