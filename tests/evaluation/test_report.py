import base64
import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from yolo_mha.data.dataset import Sample
from yolo_mha.evaluation import comparison as found
from yolo_mha.evaluation.charts import effects_chart
from yolo_mha.evaluation.declared import Declaration
from yolo_mha.evaluation.looks import Look
from yolo_mha.evaluation.recipe import Arm, Control, Recipe
from yolo_mha.evaluation.report import WORDS, write_reports
from yolo_mha.evaluation.verdict import judge, no_interval
from yolo_mha.profiling.cost import Cost
from yolo_mha.scoring.coco import METRICS
from yolo_mha.scoring.intervals import Interval
from yolo_mha.scoring.resample import Support

SCHEMA = json.loads((Path(found.__file__).parent / "compare.schema.json").read_text())
ROOT = Path(__file__).parents[2]
PLANNED = Declaration("2026-01-02T03:04:05+00:00", "ef" * 32, {"seeds": [0, 1, 2]})


def effect(delta: float, scope: str = "seeds and images") -> Interval:
    return Interval(delta, delta - 0.02, delta + 0.02, scope, 3, 40, 0.01, 0.005, 0.03)


@pytest.fixture
def comparison(tmp_path) -> found.Comparison:
    """A made-up result of two arms with three seeds, one of them failed, and names that need escaping."""
    runs, names = [], {"baseline": 0.40, "attention": 0.45}
    truth = {
        "images": [{"id": "picture 7"}],
        "categories": [{"id": 3, "name": "<b>cat</b>"}],
        "annotations": [{"image_id": "picture 7", "category_id": 3, "bbox": [10, 10, 40, 40]}],
    }
    predictions = [{"image_id": "picture 7", "category_id": 3, "bbox": [12, 10, 40, 40], "score": 0.6}]
    for arm, ap in names.items():
        for seed in range(3):
            metrics = {**dict.fromkeys(METRICS, ap + seed / 100), "APlarge": -1.0}
            runs.append(
                found.RunResult(arm, seed, "done", None, f"arms/{arm}/seed{seed}/weights/last.pt", metrics,
                                {"<b>cat</b>": {"AP": ap, "AP50": ap}}, 2, 60.0, seed, 900.0, [0.1, ap])
            )  # fmt: skip
            folder = tmp_path / "val" / arm / f"seed{seed}"
            folder.mkdir(parents=True)
            (folder / "annotations.json").write_text(json.dumps(truth))
            (folder / "predictions.json").write_text(json.dumps(predictions))
    runs.append(found.RunResult("attention", 3, "failed", "out of <memory>", "", {}, {}, 0, 5.0, 0, 10.0, []))
    cost = Cost(1000, 1.5, 10.0, 1.05, (1.01, 1.25), 3.0)
    arms = {
        arm: found.ArmResult(f"{arm}.yaml", {**dict.fromkeys(METRICS, ap), "APlarge": -1.0},
                             {"<b>cat</b>": {"AP": ap, "AP50": ap}}, cost, 60.0)
        for arm, ap in names.items()
    }  # fmt: skip
    contrast = found.Contrast(
        "attention", "baseline", True, [0, 1, 2],
        {"AP": effect(0.05), "AP50": effect(0.04), "APsmall": effect(0.0), "APmedium": effect(0.1), "APlarge": None},
        {"<b>cat</b>": effect(0.05)}, judge(effect(0.05), "attention", "baseline", 0.01, best=0.45),
    )  # fmt: skip
    cv2.imwrite(str(tmp_path / "7.png"), np.full((300, 80, 3), 90, np.uint8))
    arms_of_recipe = {"baseline": Arm("a.yaml"), "attention": Arm("b.yaml")}
    return found.Comparison(
        schema_version=1,
        recipe=Recipe("x", "d.yaml", arms_of_recipe, {"epochs": 2}, jobs=2, primary="attention"),
        estimand=found.ESTIMAND,
        method=found.METHOD.format(resamples=1000),
        arms=arms,
        runs=runs,
        contrasts=[contrast],
        headline="A <headline>.",
        wins=[
            found.Win(str(tmp_path / "7.png"), "attention", 0.004),
            found.Win(str(tmp_path / "7.png"), "attention", -1e-3),
        ],
        start=[
            found.StartCheck(
                0,
                {"baseline": "ab" * 32, "attention": "ab" * 32},
                True,
                {"baseline": 5, "attention": 5},
                {"baseline": "cd" * 32, "attention": "cd" * 32},
                5,
            )
        ],
        declaration=PLANNED,
        objections=[],
        looks=[Look(PLANNED.date, PLANNED.sha256, PLANNED.plan, {"baseline": [0, 1, 2], "attention": [0, 1, 2]})],
        settings={"imgsz": 64, "conf": 0.001},
        notes=["A note."],
        environment={"torch": "2"},
        commands=["yolo-mha compare recipe.yaml"],
        save_dir=str(tmp_path),
        summary=found.Summary(
            "Is attention better than baseline?",
            "Yes.",
            "AP is <higher>.",
            "Use attention:",
            "yolo-mha export model='a b'",
        ),
    )


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    return [Sample(tmp_path / "7.png", 80, 300, np.array([0]), np.array([[10.0, 10.0, 50.0, 50.0]]))]


@pytest.fixture
def folder(comparison, samples, tmp_path) -> Path:
    write_reports(comparison, samples, tmp_path)
    return tmp_path


def test_report__holds_the_numbers_and_needs_no_network(folder):
    page = (folder / "report.html").read_text()
    numbers = (
        "<strong>Yes.</strong> AP is &lt;higher&gt;.",
        '<pre class="command">yolo-mha export model=&#39;a b&#39;</pre>',
        "attention helps: AP +0.050",
        "+0.050 [+0.030 to +0.070]",
        "\u00d71.05, 1.01 to 1.25",
        "0.460 \u00b1 0.010",
        "\u2013",
    )
    for text in (
        *numbers,
        "epochs=2",
        "A note.",
        "abababababababab",
        "cdcdcdcdcdcdcdcd",
        "yolo-mha compare recipe.yaml",
        "primary: helps",
        "chosen before the results, on 2026-01-02 03:04 UTC",
        "efefefefefefefef<",
    ):
        assert text in page, text
    assert "<b>cat</b>" not in page
    assert "&lt;b&gt;cat" in page
    assert "out of &lt;memory&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?://(?!www\.w3\.org)", re.sub(r"base64,[^\"]*", "", page))


def test_report__text_and_page_say_the_same_of_its_words(folder):
    """The caveats, that is; the text has no table by size and class, and no pictures."""
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for words in ("A note.", *WORDS["contrasts"].split(". "), *WORDS["arm"].split(". "), *WORDS["seed"].split(". ")):
        assert words in page
        assert words in text
    for words in ("2 runs were trained at a time", "Memory is what a pass holds", "64 px"):
        assert words in page
        assert words in text


def test_comparison__with_a_failed_run_is_not_ok(comparison):
    assert (comparison.ok, comparison.exit_code) == (False, 1)
    assert replace(comparison, runs=[run for run in comparison.runs if run.state == "done"]).exit_code == 0


def test_report__draws_truth_and_both_arms_for_every_win(folder):
    pictures = sorted((folder / "wins").glob("*.jpg"))
    assert [p.name for p in pictures] == ["1-attention.jpg", "2-attention.jpg"]
    picture = cv2.imread(str(pictures[0])).astype(int)
    assert picture.shape == (400 + 28, 3 * 406, 3)
    coloured = np.ptp(picture, axis=2) > 60
    for panel in range(3):
        assert coloured[28:, panel * 406 : (panel + 1) * 406].any(), panel


def test_report__as_markdown_has_the_charts_of_the_page(folder):
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    charts = re.findall(r"!\[[^]]+\]\((.+)\)", text)
    assert charts == ["charts/effects.svg", "charts/curves.svg", "charts/cost.svg"]
    assert all(base64.b64encode((folder / chart).read_bytes()).decode() in page for chart in charts)


def test_effects_chart__of_a_metric_of_many_classes_keeps_its_labels(comparison):
    classes = [f"kind{i}OfThings" for i in range(6)]
    long = replace(comparison.contrasts[0], metric=f"AP[{','.join(classes)}]")
    long.effects[long.metric] = long.effects["AP"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what matplotlib says where labels leave no room for the axes
        chart = effects_chart(replace(comparison, contrasts=[*comparison.contrasts, long])).decode()
    labels = " ".join(re.findall("<!-- (.+) -->", chart))
    assert all(name in labels for name in classes)


def test_report__as_markdown(folder):
    text = (folder / "report.md").read_text()
    assert text.startswith(
        "# Is attention better than baseline?\n\n**Yes.** AP is \\<higher>.\n\n**Next:** Use attention:"
    )
    assert "```bash\nyolo-mha export model='a b'\n```" in text
    assert "In exact words: attention helps" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows[:4]} == {9}
    by_class = next(i for i, line in enumerate(rows) if line.startswith("| class |"))
    assert {line.count("|") for line in rows[4:by_class]} == {7}
    assert {line.count("|") for line in rows[by_class:]} == {5}


def test_report__failed_runs_have_a_line_of_their_own(comparison, samples, tmp_path):
    contrast = replace(comparison.contrasts[0], with_failures=effect(-0.3))
    write_reports(replace(comparison, contrasts=[contrast]), samples, tmp_path)
    for file in ("report.html", "report.md"):
        (line,) = re.findall(".*AP 0 for a failed run.*", (tmp_path / file).read_text())
        assert "-0.300 [-0.320 to -0.280]" in line


def test_report__of_two_seeds_says_images_only_above_every_interval(comparison, samples, tmp_path):
    contrast = comparison.contrasts[0]
    effects = {name: effect(0.05, "images") if e else None for name, e in contrast.effects.items()}
    two = replace(comparison, contrasts=[replace(contrast, effects=effects)])
    write_reports(two, samples, tmp_path)
    for file in ("report.html", "report.md"):
        heads = re.findall(r"\[(95 % interval[^\]]*)\]", (tmp_path / file).read_text())
        assert set(heads) == {"95 % interval, images only"}, heads
    assert b"line: 95 % interval, images only" in effects_chart(two)
    assert b"images only" not in effects_chart(comparison)


def test_report__small_numbers_are_not_nothing(comparison, samples, tmp_path):
    contrast = comparison.contrasts[0]
    small = Interval(0.0024, 0.0004, 0.0044, "seeds and images", 3, 40, 0.00021, 0.00032, 0.0041)
    clamped = replace(small, se_images=0.0)
    for given, texts in ((small, ("+0.002 [+0.0004 to +0.004]", ">0.0002<", ">0.0003<")), (clamped, (">~ 0<",))):
        changed = replace(contrast, effects={**contrast.effects, "AP": given})
        write_reports(replace(comparison, contrasts=[changed]), samples, tmp_path)
        page = (tmp_path / "report.html").read_text()
        assert all(text in page for text in texts)
        assert "~ 0: not distinguishable from 0 with these seeds" in page
        assert ">0.000<" not in page


def test_report__asks_about_the_arm_by_its_name(comparison, samples, tmp_path):
    names = {"baseline": "baseline", "attention": "ConvBlock", "control": "control"}
    arms = {"baseline": Arm("a.yaml"), "ConvBlock": Arm("b.yaml"), "control": Control("ConvBlock")}
    verdict = judge(effect(0.05), "ConvBlock", "control", 0.01, best=0.45)
    one = replace(comparison.contrasts[0], arm="ConvBlock")
    changed = replace(
        comparison,
        recipe=replace(comparison.recipe, arms=arms, primary="ConvBlock"),
        arms={names[name]: arm for name, arm in comparison.arms.items()} | {"control": comparison.arms["baseline"]},
        runs=[replace(run, arm=names[run.arm]) for run in comparison.runs],
        contrasts=[
            one,
            replace(one, arm="control", primary=False, seeds=[]),
            replace(one, against="control", primary=False, seeds=[], verdict=verdict),
        ],
        wins=[],
    )
    write_reports(changed, samples, tmp_path)
    for file in ("report.html", "report.md"):
        assert "ConvBlock, or more parameters? ConvBlock helps" in (tmp_path / file).read_text()
    assert "<title>x: ConvBlock, control against baseline</title>" in (tmp_path / "report.html").read_text()


def test_report__of_a_comparison_in_which_an_arm_never_finished(comparison, samples, tmp_path):
    nothing = found.ArmResult("attention.yaml", {}, {}, None, 0.0)
    none = no_interval("attention", "baseline", 0, Support(40, None))
    empty = found.Contrast("attention", "baseline", True, [], dict.fromkeys(comparison.contrasts[0].effects), {}, none)
    failed = [r for r in comparison.runs if r.arm == "baseline" or r.state == "failed"]
    arms = {**comparison.arms, "attention": nothing}
    write_reports(replace(comparison, arms=arms, contrasts=[empty], wins=[], runs=failed), samples, tmp_path)
    assert "no seed finished in both" in (tmp_path / "report.html").read_text()
    assert "no verdict" in (tmp_path / "report.md").read_text()


def test_schema__is_that_of_the_classes_and_is_met(comparison):
    done = subprocess.run(
        [sys.executable, "-c", "import make_schema; print(make_schema.schema(), end='')"],
        capture_output=True, text=True, cwd=ROOT / "tools", check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == SCHEMA, "run python tools/make_schema.py"
    content = json.loads(json.dumps(comparison.as_dict()))
    jsonschema.validate(content, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "runs": [{"arm": 5}]}, SCHEMA)


@pytest.mark.parametrize("width", [1280, 500])
def test_report__opens_in_a_browser(folder, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
    shot = tmp_path / "shot.png"
    command = [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600"]
    page = (folder / "report.html").as_uri()
    subprocess.run([*command, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=120)
    picture = cv2.imread(str(shot))
    assert picture.shape[1] == width
    assert picture.std() > 10


def test_report_md__shows_names_as_they_are(comparison, samples, tmp_path):
    named = replace(
        comparison,
        recipe=replace(comparison.recipe, name="![x](http://x)\n# <b>", data="a|b\x1b[2J", train={"data": "a`b\n```"}),
        notes=["<script>"],
        commands=["yolo-mha val data='a|b'"],
    )
    write_reports(named, samples, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert any(
        line.startswith(r"![x]\(http://x) # \<b>: attention against baseline, on a\|b\x1b[2J, scored on 40 images.")
        for line in lines
    )
    assert any("Training: `data=a'b '''`." in line for line in lines)
    assert r"- \<script>" in lines
    assert "yolo-mha val data='a|b'" in lines
