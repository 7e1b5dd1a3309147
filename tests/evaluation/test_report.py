"""The report: its files, its page in a real browser, and what it makes of partial and poor runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report.browser import choose_samples
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.files import read_lines
from tests.evaluation.dummy import DummySystem, make_planning_set

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dummy run whose images have since become real ones."""
    work = tmp_path_factory.mktemp("report")
    make_planning_set(work / "data", scenes=6, per_scene=3)
    overrides = [
        f"data.planning_set={work}/data/set.jsonl",
        f"data.image_root={work}/data",
        f"output={work}/run",
        "name=a report <of> sorts",
        "pruning.methods=[autoprune,random,blind,shuffled,static]",
        "pruning.options.shuffled={method: autoprune, indicator: shuffled}",
        "pruning.options.static={method: autoprune, indicator: static}",
        "pruning.retentions=[0.2,0.4]",
        "pruning.seeds=[0,1]",
        "scoring.resamples=50",
        "kept_samples=5",
    ]
    config = load_config(EvaluationConfig, overrides=overrides)
    evaluate(config, DummySystem(config))
    for number, path in enumerate(sorted((work / "data" / "images").iterdir())):
        Image.new("RGB", (160, 90), (40 + number % 200, 120, 160)).save(path)
    (work / "data" / "images" / "token0000_CAM_BACK.jpg").unlink()
    write_report(work / "run", samples=12, image_root=work / "data")
    return work / "run"


def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_files_are_there(run: Path) -> None:
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {"report.html", "report.md", "results.csv", "results.tex"} <= names
    plots = {
        "accuracy_by_retention",
        "accuracy_by_time",
        "retention_curves",
        "tokens_per_camera",
        "confusion",
        "complexity",
    }
    assert {f"plots/{name}_corrected.png" for name in plots} <= names
    for name in plots:
        with Image.open(run / "plots" / f"{name}_corrected.png") as picture:
            assert picture.width > 600
    text = (run / "report.md").read_text(encoding="utf-8")
    assert all((run / link).is_file() for link in re.findall(r"\]\((.+?)\)", text))


def test_page_loads_nothing(run: Path) -> None:
    class Loads(HTMLParser):
        """Collects every attribute that could make a browser fetch something."""

        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [v or "" for n, v in attrs if n in ("src", "href", "xlink:href", "data", "poster") and v]

    parser = Loads()
    parser.feed(page(run))
    assert parser.found
    assert all(value.startswith(("#", "data:")) for value in parser.found)
    assert "default-src 'none'" in page(run)


def test_page_holds_every_row_and_escapes_names(run: Path) -> None:
    text = page(run)
    for label in ("majority", "none", "blind"):
        assert f'<th scope="row">{label}</th>' in text
    for label in ("autoprune 20 %", "random 40 %"):
        assert f'<th scope="row">{label}<small>repacked</small></th>' in text
    assert "a report &lt;of&gt; sorts" in text
    assert "<of>" not in text


def test_the_page_leads_with_methods_by_retentions(run: Path) -> None:
    text = page(run)
    assert text.index('class="pivot"') < text.index("Accuracy against measured time") < text.index('class="flat"')
    assert "worse than unpruned" in text
    assert '<th scope="row">autoprune<small>repacked</small></th>' in text
    for words in ("Does the retention curve follow the sample?", "gain over shuffled [95 %]", "could detect"):
        assert words in text
    report = (run / "report.md").read_text(encoding="utf-8")
    assert report.index("| method | no retention | 20 % | 40 % |") < report.index("accuracy_by_time")
    assert (run / "results.tex").read_text(encoding="utf-8").count("toprule") == 1


def test_rescored_from_the_lines_alone(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("run.json", "decisions.jsonl", "planning_set.jsonl"):
        shutil.copy(run / name, copy / name)
    write_report(copy)
    assert "accuracy_by_time" not in (copy / "report.md").read_text(encoding="utf-8")
    lines = (copy / "results.csv").read_text(encoding="utf-8").splitlines()
    original = (run / "results.csv").read_text(encoding="utf-8").splitlines()
    shared = len(lines[0].split(","))
    assert [line.split(",")[:20] for line in lines] == [line.split(",")[:20] for line in original]
    assert shared > 20


def test_pictures_may_have_moved(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_report(run, out=tmp_path / "report", image_root=tmp_path / "empty")
    assert "data:image/jpeg" in page(run)
    assert "data:image/jpeg" not in page(tmp_path / "report")
    with pytest.raises(ConfigError, match="no such folder"):
        write_report(run, out=tmp_path / "report", image_root=tmp_path / "nowhere")


def test_other_protocol_and_folder(run: Path, tmp_path: Path) -> None:
    write_report(run, out=tmp_path / "else" / "where", protocol="reference")
    assert "protocol reference" in (tmp_path / "else" / "where" / "report.md").read_text(encoding="utf-8")


def test_partial_run_says_so(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    (copy / "journal").mkdir(parents=True)
    for name in ("run.json", "planning_set.jsonl"):
        shutil.copy(run / name, copy / name)
    (copy / "run.json").write_text(
        (copy / "run.json").read_text(encoding="utf-8").replace('"complete"', '"partial"'), encoding="utf-8"
    )
    with pytest.raises(RunError, match="nothing is decided yet"):
        write_report(copy)
    journal = [f'{{"record":{line}}}\n' for line in (run / "decisions.jsonl").read_text("utf-8").splitlines()[:60]]
    (copy / "journal" / "process-000.jsonl").write_text("".join(journal) + '{"record":{"torn', encoding="utf-8")
    write_report(copy)
    assert "Partial run" in page(copy)
    assert "PARTIAL, 5 samples" in (copy / "report.md").read_text(encoding="utf-8")


def test_samples_with_recorded_tokens_come_first(run: Path) -> None:
    folder = RunFolder(run)
    lines = folder.read_lines()
    chosen = choose_samples(folder.read_samples(), lines, 5)
    recorded = {r["sample"] for _, r in read_lines(run / "decisions.jsonl") if r["trace"]["depths"]}
    assert {sample.key for sample in chosen} == recorded
    assert len({sample.scene for sample in chosen}) >= 4


def dump(page: Path, tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The browser on a page, 1366 pixels wide."""
    assert BROWSER
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path}/profile", "--window-size=1366,900", "--virtual-time-budget=3000", *flags]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=90, check=False)


def browse(run: Path, tmp_path: Path, script: str, *flags: str) -> tuple[str, str]:
    """DOM after the page, and then `script`, have run; and the browser's console."""
    probe = tmp_path / "probe.html"
    probe.write_text(page(run).replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = dump(probe, tmp_path, *flags)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


MEASURE = """
  const wide = [...document.querySelectorAll(".pivot, .flat, .words")].map((table) => table.parentElement);
  document.body.dataset.over = document.documentElement.scrollWidth - innerWidth;
  document.body.dataset.cut = wide.filter((element) => element.scrollWidth > element.clientWidth).length;
  location.hash = "#classes-1";
  setTimeout(() => {
    document.body.dataset.open = document.querySelector("#classes-1").closest("details").open;
    if (parent !== window) Object.assign(parent.document.body.dataset, document.body.dataset);
  }, 500);
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed")
def test_nothing_is_cut_off_or_overflows(run: Path, tmp_path: Path) -> None:
    dom, _ = browse(run, tmp_path, MEASURE, "--dump-dom")
    over, cut, opened = re.search(r'data-over="(-?\d+)" data-cut="(\d)" data-open="(\w+)"', dom).groups()  # type: ignore[union-attr]
    assert int(over) <= 0
    assert cut == "0"
    assert opened == "true"
    # A headless window is never as narrow as a telephone, so the page is shown in a frame.
    narrow = tmp_path / "narrow.html"
    narrow.write_text(
        '<body><iframe src="probe.html" style="border: 0; width: 390px; height: 800px"></iframe>', "utf-8"
    )
    dom = dump(narrow, tmp_path, "--dump-dom", "--allow-file-access-from-files").stdout
    assert int(re.search(r'<body data-over="(-?\d+)"', dom)[1]) <= 0  # type: ignore[index]


PIXELS = """
  at("layer").value = 0;
  at("layer").dispatchEvent(new Event("input"));
  setTimeout(() => {
    const canvas = document.querySelector("#views canvas");
    const line = canvas.getContext("2d").getImageData(0, canvas.height / 2, canvas.width, 1).data;
    const blue = (x) => line[4 * x + 2];
    document.body.dataset.blue = [2, canvas.width / 2, canvas.width - 2].map(blue).join();
  }, 1000);
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed")
@pytest.mark.parametrize("padded", [True, False])
def test_masks_lie_where_the_model_looked(run: Path, tmp_path: Path, padded: bool) -> None:
    """All tokens enter layer 0, so everything that the model saw is bright: of a cropped image, the middle alone."""
    shutil.copytree(run, tmp_path / "run")
    appearance = tmp_path / "run" / "appearance.json"
    text = appearance.read_text(encoding="utf-8")
    appearance.write_text(text.replace('"padded":true', f'"padded":{str(padded).lower()}'), encoding="utf-8")
    write_report(tmp_path / "run", samples=1, image_root=run.parent / "data")
    dom, console = browse(tmp_path / "run", tmp_path, PIXELS, "--dump-dom")
    assert console == ""
    left, middle, right = map(int, re.search(r'data-blue="(\d+),(\d+),(\d+)"', dom).groups())  # type: ignore[union-attr]
    assert middle > 140
    assert (left > 140, right > 140) == (padded, padded)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed")
def test_page_in_a_real_browser(run: Path, tmp_path: Path) -> None:
    dom, console = browse(run, tmp_path, "", "--dump-dom")
    assert console == ""
    assert "12 of 12 samples" in dom
    assert "24 visual tokens" in dom or "5 visual tokens" in dom
    assert dom.count("<canvas") >= 5
    # What a user would do: tick the filter, take the first true speed, step on with the arrow key, move the slider.
    script = """
      const before = at("sample").value;
      document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
      document.body.dataset.moved = String(at("sample").value !== before);
      at("only-changed").click();
      const select = at("speed");
      select.value = "KEEP";
      select.dispatchEvent(new Event("change"));
      at("layer").value = 3;
      at("layer").dispatchEvent(new Event("input"));
      at("theme").click();
      document.body.dataset.shown = shown.length;
      document.body.dataset.fits = shown.every((s) => s.changed && s.speed === "KEEP");
      document.body.dataset.narrow = document.documentElement.scrollWidth <= innerWidth;
    """.replace("at(", "document.getElementById(").replace(
        'getElementById("sample").value', 'querySelector("#sample").value'
    )
    dom, console = browse(run, tmp_path, script, "--dump-dom")
    assert console == ""
    moved, shown, fits, narrow = re.search(
        r'data-moved="(\w+)" data-shown="(\d+)" data-fits="(\w+)" data-narrow="(\w+)"', dom
    ).groups()  # type: ignore[union-attr]
    assert (moved, fits, narrow) == ("true", "true", "true")
    assert 0 < int(shown) < 12
    assert f"{shown} of 12 samples" in dom
    assert 'data-theme="dark"' in dom or 'data-theme="light"' in dom
    picture = tmp_path / "page.png"
    browse(run, tmp_path, "", f"--screenshot={picture}")
    with Image.open(picture) as screenshot:
        assert screenshot.width == 1366
        assert len(screenshot.convert("RGB").getcolors(1 << 24)) > 50
