import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("timm")
TOOL = Path(__file__).parents[2] / "benchmarks" / "speed.py"


@pytest.fixture(scope="module")
def tool():
    """benchmarks/speed.py, loaded from its path; its parts lie beside it."""
    sys.path.insert(0, str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("benchmark", TOOL)
    module = sys.modules["benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(TOOL.parent))
    for name in ("benchmark", "speed", "speed_onnx", "speed_peers", "speed_report"):
        sys.modules.pop(name, None)  # `speed` is there only after the slow tests


@pytest.fixture
def settings(tool):
    return tool.parse(["--rounds", "10", "--threads", "1"])


def job(tool, **notes):
    passes = {name: lambda: None for name in ("a", "a again (A/A)", "b")}
    return tool.Job("block", "P4 40x40 C128 batch 1", "forward", lambda: {**passes, **notes})


def fed(tool, monkeypatch, *tries):
    """Let the clock give these samples, one dictionary a try, after the two passes that only warm up."""
    warm = {name: [1.0] for name in ("a", "a again (A/A)", "b")}
    feed, asked = iter([warm, warm, *tries]), []
    monkeypatch.setattr(tool, "interleave", lambda runs, rounds, *_: asked.append(rounds) or next(feed))
    return asked


@pytest.mark.slow
def test_quick_run__writes_json_markdown_and_picture(tool, capsys, tmp_path):
    words = ["--quick", "--only", "block", "--case", "P5 * batch 1 *", "--threads", "1", "--out", "out", "--json"]
    assert tool.main(words) == 0
    report = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert report["environment"]["torch"] == torch.__version__
    assert report["environment"]["threads"] == 1
    assert [case["name"] for case in report["cases"]] == [
        "P5 20x20 C256 batch 1 forward",
        "P5 20x20 C256 batch 1 forward+backward",
    ]
    for case in report["cases"]:
        assert case["rounds"] == 3
        assert case["cells"]["SpatialMHA"]["ratio"] == 1
        assert all(cell["median_ms"] > 0 and cell["ratio"] > 0 for cell in case["cells"].values())
    assert report["bounds"] == []
    text = (tmp_path / "out" / "speed.md").read_text()
    assert "| SpatialMHA |" in text
    assert "GPU: not measured" in text
    assert (tmp_path / "out" / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_onnx__blocks_as_exported_and_fused(tool, capsys, tmp_path):
    words = ["--quick", "--only", "onnx", "--case", "*P5 20x20*", "--threads", "1", "--out", str(tmp_path), "--json"]
    assert tool.main(words) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert list(case["cells"]) == ["as exported", "as exported again (A/A)", "fuse_attention"]
    assert all(cell["median_ms"] > 0 for cell in case["cells"].values())


@pytest.mark.slow
def test_onnx__networks_beside_the_baseline(tool):
    from speed_onnx import FUSED_P4, networks

    runs = networks("yolov8n", ("mha-p4p5",), 64, 1)
    assert list(runs) == [tool.BASELINE, tool.again(tool.BASELINE), "mha-p4p5", FUSED_P4]
    plain, fused = (runs[name]()[0] for name in ("mha-p4p5", FUSED_P4))
    assert plain.shape == fused.shape == (1, 84, 84)
    assert abs(plain - fused).max() < 1e-2


def test_is_void__of_unequal_and_equal_instances(tool):
    assert not any(map(tool.is_void, (1.0, 1.029, 0.971)))
    assert all(map(tool.is_void, (1.05, 0.95)))


def test_ratios__are_taken_round_by_round(tool):
    assert tool.ratios([1, 2, 30], [2, 4, 10]) == (0.5, (0.5, 1.75))  # that of the medians is 0.5 / 1.0
    assert tool.ratios([1, 9, 9], [2, 3, 1]) == (3, (1.75, 6))
    assert tool.ratios([3], [2]) == (1.5, (1.5, 1.5))


def test_measure__gives_ratios_and_no_void(tool, settings, monkeypatch):
    asked = fed(tool, monkeypatch, {"a": [1, 2, 3], "a again (A/A)": [1, 2, 3], "b": [2, 4, 12]})
    case = tool.measure(job(tool), settings)
    assert asked == [1, 1, 10]
    assert (case.aa, case.void, len(case.attempts)) == (1, False, 1)
    assert (case.cells["b"].ratio, case.cells["b"].median_ms) == (0.5, 4)


def test_measure__tries_again_and_then_calls_it_void(tool, settings, monkeypatch):
    off = {"a": [1.0, 1.0], "a again (A/A)": [1.1, 1.1], "b": [2.0, 2.0]}
    asked = fed(tool, monkeypatch, off, off, off)
    case = tool.measure(job(tool), settings)
    assert asked == [1, 1, 10, 15, 22]
    assert case.void
    assert [a["rounds"] for a in case.attempts] == [10, 15, 22]
    shown = dict(tool.tables([case], None))
    assert shown[next(t for t in shown if "noisy" in t)][1][-1] == "VOID"

    fed(tool, monkeypatch, off, {**off, "a again (A/A)": [1.0, 1.0]})
    case = tool.measure(job(tool), settings)
    assert (case.void, len(case.attempts)) == (False, 2)


def test_verdicts__yes_no_void_and_without_a_number(tool):
    from speed_report import Bound

    def reached(ratio, device="cpu", void=False, note=""):
        case = tool.Case("block", "P4", "forward", {"b": tool.Cell(ratio, note=note)}, void=void)
        return [(v.reached, v.well) for v in tool.verdicts([case], device, [Bound("cpu", "block", "P4 *", "b", 0.5)])]

    assert reached(0.5) == [("yes", True)]
    assert reached(0.51) == [("no", False)]
    assert reached(0.1, void=True) == [("void", False)]
    assert reached(None, note="not there") == [("not measured", False)]
    assert reached(None, note="skipped: needs N^2 memory, 9 GB") == [("peer skipped", True)]
    assert reached(0.5, device="cuda") == []


def test_bounds__name_cases_and_contenders_that_exist(tool, settings):
    from speed_report import BOUNDS

    jobs = [
        *tool.block_jobs(settings),
        *tool.scope_jobs(settings),
        *tool.model_jobs(settings),
        *tool.onnx_jobs(settings),
    ]
    cases = [tool.Case(j.level, j.table, j.column, {}) for j in jobs]
    cases += [tool.Case("pairs", p.table, p.column, {p.peer: tool.Cell()}) for p in tool.pairs(settings)]
    counts = {b: len(tool.verdicts(cases, "cpu", [b])) for b in BOUNDS if b.device == "cpu"}
    assert 0 not in counts.values(), counts
    assert {b.contender for b in BOUNDS} <= {*tool.PEERS, *tool.SCOPES, *tool.VARIANTS, "fuse_attention"}


def test_interleave__every_contender_once_a_round(tool):
    ran = []
    runs = {name: lambda name=name: ran.append(name) for name in "abc"}
    times = tool.interleave(runs, rounds=4, warmup=2, synchronize=lambda: None)
    assert [len(own) for own in times.values()] == [4, 4, 4]
    rounds = [ran[i : i + 3] for i in range(0, 18, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert [each[::-1] for each in rounds[::2]] == rounds[1::2]


def test_rounds_for__a_bounded_time(tool):
    assert [tool.rounds_for(s) for s in (0.001, 0.25, 3.0, 10.0, 60.0)] == [200, 100, 15, 10, 5]


def test_allocator_peak_bytes__of_a_known_allocation(tool):
    class Known(nn.Module):
        def forward(self, x):
            kept = torch.ones(1000, 1000)  # 4 MB
            gone = torch.ones(2000, 1000)  # 8 MB beside it
            total = gone.sum()
            del gone
            return kept.sum() + total + x.sum()

    assert tool.allocator_peak_bytes(tool.runner(Known(), torch.zeros(8), "forward"), "cpu") == pytest.approx(
        12e6, rel=0.05
    )

    m = tool.Map("P5", 20, 64)
    x = m.tensor(1, "cpu")
    run = tool.runner(nn.ReLU(), x, "forward+backward")
    assert tool.allocator_peak_bytes(run, "cpu") == pytest.approx(
        2 * x.nbytes, rel=0.05
    )  # the output and the input's gradient


@pytest.mark.slow
def test_memory_of__in_a_process_of_its_own(tool, settings):
    found = tool.in_a_process(["--memory-of", str(tool.P5), tool.OURS], settings)
    assert 4 < found["forward"] / tool.P5.tensor(1, "cpu").nbytes < 12
    assert found["forward+backward"] > found["forward"]


def test_memory_cases__growth_and_bounds(tool, settings, monkeypatch):
    def made_up(words, settings):
        _, where, name = words
        m = next(m for m in tool.MAPS if str(m) == where)
        passes = 5 * m.tensor(1, "cpu").nbytes
        return {"forward": passes, "forward+backward": "skipped: needs N^2 memory" if "AIFI" in name else 5 * passes}

    monkeypatch.setattr(tool, "in_a_process", made_up)
    cases = tool.memory_cases(settings, tool.MAPS, lambda text: None)
    by_name = {case.name: case.cells for case in cases}
    assert by_name["P5 20x20 C256 forward"][tool.OURS].ratio == 5
    growth = [case for case in cases if case.level == "growth"]
    assert len(growth) == 4
    assert all(case.cells[tool.OURS].ratio == 4 for case in growth)
    found = tool.verdicts(cases, "cpu")
    assert len(found) == 6 + 6 + 4
    assert [v.reached for v in found] == ["yes"] * 6 + ["no"] * 6 + ["yes"] * 4


def test_peers__same_shape_in_and_out(tool):
    m = tool.Map("P5", 8, 128)
    for name, peer in tool.PEERS.items():
        for mode in tool.MODES:
            x, shapes = m.tensor(2, "cpu"), []
            module = peer.build(m)
            module.register_forward_hook(
                lambda _, inputs, out, shapes=shapes: shapes.append((inputs[0].shape, out.shape))
            )
            tool.runner(module, x, mode)()
            assert {s for pair in shapes for s in pair} == {x.shape}, name


def test_peers__fold_changes_no_result(tool):
    m = tool.Map("P5", 8, 128)
    x = m.tensor(1, "cpu")
    from speed_peers import fold

    for name in (tool.speed_peers.ATTENTION, "Ultralytics AAttn"):
        module = tool.PEERS[name].build(m)
        module(x)  # statistics that are not those of the start
        with torch.no_grad():
            before = module.eval()(x)
            fold(module)
            assert not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
            torch.testing.assert_close(module(x), before, rtol=1e-4, atol=1e-5)


def test_peers__too_large_are_skipped(tool):
    peer = tool.PEERS["Ultralytics AIFI"]
    assert peer.missing(tool.P5, 1, "forward") == ""
    assert "needs N^2 memory, 10.5 GB" in peer.missing(tool.speed_peers.P3_1280, 1, "forward")
    assert all(tool.PEERS[tool.OURS].missing(m, 8, mode) == "" for m in tool.MAPS for mode in tool.MODES)


def test_main__without_timm_says_how_to_install_it(tool, monkeypatch, capsys):
    monkeypatch.setattr(tool.speed_peers, "Attention2d", None)
    assert tool.main(["--quick"]) == 2
    assert "pip install 'yolo-mha[benchmark]'" in capsys.readouterr().err


def test_main__no_case(tool, tmp_path, capsys):
    assert tool.main(["--only", "scopes", "--case", "no such", "--out", str(tmp_path), "--threads", "1"]) == 2
    assert "no such" in capsys.readouterr().err


def test_main__help_has_examples(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(["--help"])
    assert "examples:" in capsys.readouterr().out
