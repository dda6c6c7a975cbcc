"""The report as HTML: complete, self-contained, and safe with any name."""

import http.client
import json
import re
import shutil
import threading
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from medsynth.errors import InputError
from medsynth.report import page as page_module
from medsynth.report.line_figures import Line, curves
from medsynth.report.live import live_server, version
from medsynth.report.measures import extractor_of, kind_of, scale_of, share_of_worst
from medsynth.report.page import write_report
from medsynth.report.pictures import Pictures, evenly
from medsynth.report.run_page import run_view
from medsynth.report.runs import read_run
from tests.command import run as run_command
from tests.run_folders import write_run, write_sweep

VOID = {"meta", "link", "img", "input", "br", "line", "hr"}
GRID = {"loss": ["hinge", "non_saturating"], "generator": ["dcgan", "resnet"], "seed": [1, 2, 3]}
FAILURES = {
    3: ("diverged", "The loss was NaN."),
    5: ("failed", "data.root=/nowhere is not a folder."),
    7: ("killed", "killed by SIGKILL"),
    9: ("running", None),
}


class Page(HTMLParser):
    """Text, attributes and headings of a page; raises if an element is closed that was not open."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.headings = [], [], "", []
        self.feed(html)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += text
        if self.open and self.open[-1] == "h2":
            self.headings.append(text)

    def all(self, tag, **attributes):
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in attributes.items())]


def data_of(html):
    """Return the data of the page's script."""
    return json.loads(re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html)[1])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "sweep"
    write_sweep(folder, GRID, failures=FAILURES)
    return folder


@pytest.fixture(scope="module")
def sweep_html(sweep):
    return write_report([sweep], sweep / "report.html").read_text()


def test_a_sweep_shows_its_sections_in_order(sweep_html):
    page = Page(sweep_html)
    names = ["Verdict", "Jobs", "Effects", "Parallel coordinates", "Quality and cost", "Curves", "Samples"]
    assert page.headings == names
    assert "12 jobs: 8 completed, 1 running, 1 diverged, 1 failed, 1 killed" in page.text
    for _, reason in FAILURES.values():
        assert reason is None or reason in page.text
    rows = [attributes for attributes in page.all("tr") if "data-f0" in attributes]
    assert len(rows) == 12
    assert sum(row.get("class") == "broken" for row in rows) == 3
    assert {row["data-f2"] for row in rows} == {"1", "2", "3"}


def test_pictures_and_figures_have_a_text_and_columns_a_scope(sweep_html):
    page = Page(sweep_html)
    pictures, figures = page.all("img"), page.all("div", role="img")
    assert len(pictures) == 1 + 12
    assert pictures[0]["alt"].startswith("Grid of real images")
    assert len(figures) >= 8
    assert all(image.get("alt") for image in pictures)
    assert all(len(figure["aria-label"]) > 20 for figure in figures)
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert len(page.all("th", **{"aria-sort": "none"})) >= 8


def test_figures_show_the_logged_values_of_all_jobs(sweep_html):
    data = data_of(sweep_html)
    assert {figure["data-figure"] for figure in Page(sweep_html).all("div", role="img")} == data["figures"].keys()
    objective = next(f for f in data["figures"].values() if f["layout"]["yaxis"]["title"]["text"] == "fd_mini")
    jobs = {trace["meta"]["job"] for trace in objective["data"] if not trace["meta"].get("band")}
    assert jobs == set(range(12))
    assert len(data["jobs"]) == 12
    assert data["jobs"][0]["values"] == [0, 0, 0, 0]
    assert data["jobs"][11]["values"] == [1, 1, 2, 11]


def test_the_page_loads_nothing(sweep_html):
    for _, attributes in Page(sweep_html).tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), value[:80]
    assert "default-src 'none'" in sweep_html
    assert "@import" not in sweep_html.partition("</style>")[0]


def test_markup_in_names_is_escaped(tmp_path):
    hostile = "<script>alert(1)</script>"
    for number, name in enumerate((hostile, '"></script><img src=x onerror=alert(2)>')):
        write_run(
            tmp_path / "sweep" / str(number),
            options={"loss": name, "seed": number},
            job={
                "number": number,
                "name": f"loss={name}",
                "overrides": [f"loss={name}"],
                "status": "failed",
                "reason": f"class folder {name} {{{{ 7 * 7 }}}} is empty",
            },
            status="failed",
            reason=f"class folder {name} is empty",
            data=f"images of {name}",
        )
    for folders in ([tmp_path / "sweep"], [tmp_path / "sweep" / "0"]):
        html = write_report(folders, tmp_path / "report.html").read_text()
        page = Page(html)
        assert hostile in page.text
        assert len(page.all("script")) == 3  # data, plotly, ours
        assert not any("onerror" in attributes for _, attributes in page.tags)
        assert "</script" not in data_text(html)


def data_text(html):
    return html.partition('id="report-data">')[2].partition("</script>")[0]


def test_a_run_shows_its_sections(tmp_path):
    folder = write_run(tmp_path / "run", options={"loss": "hinge"}, environment={"cuda": {"driver": "570"}})
    measure = {
        "name": "fd_mini",
        "better": "lower",
        "value": 9.5,
        "low": 9.0,
        "high": 10.0,
        "baseline": 0.25,
        "ratio": 38.0,
        "num_real": 500,
        "num_fake": 500,
        "num_baseline": [500, 500],
    }
    record = {"real": {"source": "val", "count": 500}, "fake": {"source": "a", "count": 500}, "measures": [measure]}
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "generator.json").write_text(json.dumps(record))
    (folder / "evaluation" / "broken.json").write_text('{"measures": 7')
    html = write_report([folder], tmp_path / "report.html").read_text()
    page = Page(html)
    old_names = {"baseline": "floor", "num_baseline": "num_floor"}
    of_earlier_version = {old_names.get(key, key): value for key, value in measure.items()}
    (folder / "evaluation" / "generator.json").write_text(json.dumps({**record, "measures": [of_earlier_version]}))
    renamed = write_report([folder], tmp_path / "report.html").read_text()
    assert Page(renamed).text.partition("written")[0] == page.text.partition("written")[0]
    assert data_of(renamed) == data_of(html)
    names = ["Result", "Over time", "Curves", "Measures", "Configuration", "Speed", "Environment", "Log"]
    assert page.headings == names
    assert "cuda.driver" in page.text
    assert "9.000 to 10.00" in page.text
    assert "selected on these validation images" in page.text
    assert "on which the generator was selected" not in page.text, "an earlier version's record does not say so"
    (folder / "evaluation" / "generator.json").write_text(
        json.dumps({**record, "real": {**record["real"], "split": "val", "selected": True}, "notes": ["Selected."]})
    )
    marked = Page(write_report([folder], tmp_path / "report.html").read_text()).text
    assert "against 500 of val, on which the generator was selected" in marked
    assert [image["alt"] for image in page.all("img")][:2] == [
        "Real images of the validation set",
        "Images of the best generator",
    ], "pictures come first"
    assert [image["alt"] for image in page.all("img")][3:] == [
        f"Generated after {step:,} real images seen" for step in (10_000, 20_000, 30_000, 40_000)
    ]
    assert page.all("input", type="range")[0]["max"] == "3"
    shapes = [shape for figure in data_of(html)["figures"].values() for shape in figure["layout"].get("shapes", [])]
    assert [shape["y0"] for shape in shapes] == [0.25]  # the baseline of the evaluation, in the curve of that metric


def test_the_result_of_a_run_says_what_was_found_and_what_to_type(tmp_path):
    finding = {"name": "mode_collapse", "sentence": "Mode collapse: images are alike", "advice": ["penalty=r1"]}
    folder = write_run(tmp_path / "run", options={"loss": "hinge"}, findings=[finding])
    text = Page(write_report([folder], tmp_path / "report.html").read_text()).text
    assert "The doctor found one thing: mode collapse." in text
    assert "Its best generator has fd_mini 10 (Fréchet distance in the features of mini; lower is better)" in text
    for command in ("evaluate", "utility", "audit", "verdict", "generate"):
        assert f"medsynth {command} run={folder}" in text
    (folder / "audit").mkdir()
    answer = {"answer": "no", "reasons": ["7 copies of training images were found"]}
    (folder / "audit" / "generator.json").write_text(json.dumps(answer))
    (folder / "summary.json").write_text(
        json.dumps(json.loads((folder / "summary.json").read_text()) | {"findings": []})
    )
    text = Page(write_report([folder], tmp_path / "report.html").read_text()).text
    assert "The doctor found nothing wrong" in text
    assert "7 copies of training images were found" in text
    assert f"medsynth audit run={folder}" not in text
    stopped = write_run(tmp_path / "stopped", options={"doctor.enabled": False}, status="stopped", reason="Ctrl-C.")
    text = Page(write_report([stopped], tmp_path / "report.html").read_text()).text
    assert "did not complete (stopped): Ctrl-C." in text
    assert "The doctor was off" in text
    assert f"python train.py resume={stopped}" in text


@pytest.mark.parametrize(
    ("name", "group", "extractor"),
    [
        ("val/fd_mini", "fidelity", "mini"),
        ("gaussian_kd_imagenet", "fidelity", "imagenet"),
        ("fid", "fidelity", ""),
        ("precision_my_network", "fidelity", "my_network"),
        ("recall_mini", "diversity", "mini"),
        ("memorization_distance_pixels", "copies", "pixels"),
        ("reference_copies_mini", "copies", "mini"),
        ("intensity_distance_physical", "appearance", ""),
        ("own", "other", ""),
    ],
)
def test_measures_are_grouped_by_what_they_say(name, group, extractor):
    assert kind_of(name).group == group
    assert extractor_of(name) == extractor


def test_a_bar_goes_from_the_baseline_to_the_worst():
    assert share_of_worst(0.9, 0.9, 0.0) == 0
    assert share_of_worst(0.45, 0.9, 0.0) == 0.5
    assert share_of_worst(0.95, 0.9, 0.0) == 0, "better than the baseline"
    assert share_of_worst(1.0, 0.1, 10.0, logarithmic=True) == pytest.approx(0.5)
    assert share_of_worst(1.0, -0.1, 10.0, logarithmic=True) is None
    assert share_of_worst(1.0, None, 10.0) is None
    assert scale_of("fd_mini", 0.1, 50.0) == (50.0, True)
    assert scale_of("fd_mini", 0.1, 2.0) == (10.0, True), "100 times the baseline, which no validation exceeded"
    assert scale_of("kd_mini", -0.001, 2.0) == (2.0, False)
    assert scale_of("recall_mini", 0.9, 0.2) == (0.0, False)


def test_penalties_and_augmentations_have_figures_of_their_own(tmp_path):
    steps = [10_000, 20_000]
    values = ("r1", "ada_strength", "ada_overfitting", "lecam", "lecam_real_average", "real_signs", "real_logits")
    curves = {f"train/{name}": (steps, [0.1, 0.2]) for name in values} | {"val/fd_mini": (steps, [9.0, 8.0])}
    view = run_view(read_run(write_run(tmp_path / "run", options={}, curves=curves)), 10**6)
    texts = {item["title"]: item["text"] for item in view["training"]}
    assert list(texts) == ["Mean logits", "r1", "ada", "lecam"]
    assert "strength" in texts["ada"]
    assert "overfitting" in texts["ada"]
    assert "real average" in texts["lecam"]


def test_figures_of_components_have_the_names_of_the_configuration(tmp_path):
    curves = {f"train/{name}": ([10_000], [0.1]) for name in ("wasserstein_gp", "wasserstein_gp_norm", "own_strength")}
    options = {"penalty.wasserstein_gp.weight": 10.0, "augment.own.target": 0.6}
    view = run_view(read_run(write_run(tmp_path / "run", options=options, curves=curves)), 10**6)
    assert [item["title"] for item in view["training"]] == ["wasserstein_gp", "own"]
    assert "Recorded by penalty.wasserstein_gp" in view["training"][0]["remark"]


def test_runs_of_every_status_have_a_page(tmp_path):
    for status in ("running", "failed", "killed", "diverged", "stopped"):
        folder = write_run(tmp_path / status, options={"seed": 1}, status=status, reason=None, samples=False, curves={})
        assert status in Page(write_report([folder], tmp_path / "report.html").read_text()).text
    folder = write_run(tmp_path / "damaged", options={"seed": 1})
    (folder / "metrics.csv").write_bytes(b"step,val/fd_mini\n\x00\xff,1\n")
    (folder / "samples" / "000010000.png").write_bytes(b"\x89PNG\r\n\x1a\n half of it")
    assert "metrics.csv" in Page(write_report([folder], tmp_path / "report.html").read_text()).text


def test_the_report_of_sixty_runs_is_smaller_than_20_megabytes(tmp_path, monkeypatch):
    write_sweep(tmp_path / "sweep", {"loss": ["hinge", "non_saturating"], "seed": list(range(30))})
    noise = np.random.default_rng(0).integers(0, 255, (230, 230, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")  # 0.16 MB, since noise cannot be compressed
    content = (tmp_path / "noise.png").read_bytes()
    for path in (tmp_path / "sweep").glob("*/samples/000040000.png"):
        path.write_bytes(content)
    out = write_report([tmp_path / "sweep"], tmp_path / "report.html")
    assert out.stat().st_size < page_module.LIMIT
    page = Page(out.read_text())
    assert len(page.all("img")) == 61
    assert "To keep the file small" in page.text


def test_pictures_are_compressed_or_left_out_only_if_they_do_not_fit(tmp_path):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)).save(paths[-1])
    size = paths[0].stat().st_size
    complete = Pictures(paths, 100 * size)
    assert complete.remark == ""
    assert all(complete.get(path).startswith("data:image/png") for path in paths)
    fewer = Pictures(paths, size)
    assert 0 < sum(fewer.get(path) is not None for path in paths) < 6
    assert "left out" in fewer.remark
    assert evenly(paths, 100 * size) == paths
    assert evenly(paths, round(4.5 * size)) == [paths[0], paths[2], paths[5]] or len(evenly(paths, 5 * size)) == 3


def test_an_old_report_is_replaced_completely_or_not_at_all(tmp_path, monkeypatch, sweep):
    out = tmp_path / "report.html"
    out.write_text("old")
    monkeypatch.setattr(
        page_module, "render", lambda *_, **__: "\ud800"
    )  # cannot be encoded: fails while it is written
    with pytest.raises(UnicodeEncodeError):
        write_report([sweep], out)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_errors_name_folder_metric_and_file(tmp_path, sweep):
    (tmp_path / "empty").mkdir()
    for folders, words in (([tmp_path / "empty"], "empty"), ([tmp_path / "gone"], "gone")):
        with pytest.raises(InputError, match=words):
            write_report(folders, tmp_path / "report.html")
    with pytest.raises(InputError, match=r"metric=val/nothing .* val/fd_mini, val/is_mini, val/kd_mini"):
        write_report([sweep], tmp_path / "report.html", metric="val/nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="out="):
        write_report([sweep], tmp_path / "file" / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_runs_are_compared_by_another_metric(tmp_path, sweep):
    html = write_report([sweep], tmp_path / "report.html", metric="val/kd_mini").read_text()
    assert "best kd_mini" in Page(html).text
    assert "the best was selected on these validation images" in Page(html).text


def test_the_command_writes_the_file_or_one_line_of_error(tmp_path, monkeypatch, capsys, sweep):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_command(monkeypatch, capsys, f"folders={sweep}", "out=here.html", command="report")
    assert code == 0
    assert "here.html" in out
    assert (tmp_path / "here.html").stat().st_size > 4_000_000
    for arguments, words in (
        ((), "No folder of a run or sweep is given"),
        (("folders=nowhere",), "nowhere"),
        (("out=a.pdf",), "out=a.pdf"),
    ):
        folder = () if "folders" in "".join(arguments) or not arguments else (f"folders={sweep}",)
        code, _, err = run_command(monkeypatch, capsys, *folder, *arguments, command="report")
        assert code == 1
        assert words in err
        assert err.count("\n") == 1


@pytest.fixture
def served(tmp_path):
    """Serve the live report of a run; yield a function that asks for a path and returns status, headers and text."""
    folder = write_run(tmp_path / "run", options={"seed": 1}, status="running")
    server = live_server([folder])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert server.server_address[0] == "127.0.0.1"

    def read(path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        connection.putrequest("GET", path, skip_host=True)
        for name, value in {"Host": f"127.0.0.1:{server.server_port}", **headers}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        content = response.status, dict(response.getheaders()), response.read().decode()
        connection.close()
        return content

    yield folder, read
    server.shutdown()
    server.server_close()


def test_the_live_view_changes_with_its_files(served):
    folder, read = served
    status, headers, page = read()
    assert (status, "data-live" in page) == (200, True)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    before = read("/version")[2]
    assert before == read("/version")[2] == version([folder])
    (folder / "samples" / "000099999.png").write_bytes(b"")
    assert read("/version")[2] != before


def test_the_live_view_answers_to_names_of_this_machine(served):
    for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST:8000", "[::1]:8000", "127.0.0.1:1"):
        assert served[1]("/version", Host=host)[0] == 200, host


FOREIGN_HOSTS = (
    *(None, "", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"),
    *("localhost:80@evil.example", "evil.example#localhost", "localhost:", "0.0.0.0", "127.0.0.1:8000x"),
)
OTHER_PATHS = (
    *("/summary.json", "/config.yaml", "/samples/", "/../summary.json", "/%2e%2e/summary.json", "/.", "/version/"),
    *("/?x", "/version/../summary.json", "/etc/passwd", "http://evil.example/", "/\\..\\summary.json"),
)


def test_the_live_view_refuses_other_hosts_in_one_sentence(served):
    """A page of another site could read the report by a name that it has resolved to 127.0.0.1 (DNS rebinding)."""
    for host in FOREIGN_HOSTS:
        for path in ("/", "/version"):
            status, headers, text = served[1](path, Host=host)
            assert (status, headers["Content-Type"]) == (403, "text/plain; charset=utf-8"), host
            assert text == "This report is served to this machine only: open it at http://localhost, with its port."


def test_the_live_view_serves_two_pages_and_no_file(served):
    for path in OTHER_PATHS:
        status, headers, text = served[1](path)
        assert (status, text) == (404, "There is no such page."), path
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_live_view_of_a_deleted_run_is_one_sentence(served, capsys):
    folder, read = served
    shutil.rmtree(folder)
    status, _, text = read()
    assert (status, text) == (503, f"{folder} is not a folder: name the folder of a run or of a sweep.")
    assert read("/version")[0] == 200
    assert capsys.readouterr().err == ""


def test_a_baseline_at_another_number_of_images_is_not_drawn_into_the_curves(tmp_path):
    folder = write_run(tmp_path / "run", options={})
    measure = {"name": "fd_mini", "better": "lower", "value": 9.5, "low": 9.0, "high": 10.0, "baseline": 0.25}
    counts = {"ratio": 30.0, "num_real": 200, "num_fake": 500, "num_baseline": [200, 200]}
    record = {"real": {"source": "test", "count": 200}, "fake": {"source": "a", "count": 500}}
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "generator.json").write_text(json.dumps({**record, "measures": [measure | counts]}))
    html = write_report([folder], tmp_path / "report.html").read_text()
    assert not any(figure["layout"].get("shapes") for figure in data_of(html)["figures"].values())
    assert "with N baseline images on each side" in Page(html).text
    assert "nor the spread over trainings with other seeds" in Page(html).text


@pytest.mark.parametrize(("jobs", "points"), [(6, 400), (240, 100)])
def test_curves_of_many_jobs_have_fewer_points_each(jobs, points):
    steps = list(range(1000))
    line = Line("job", (steps, [0.5] * 1000), (([*steps], [0.4] * 1000), ([*steps], [0.6] * 1000)), 0)
    traces = curves([line] * jobs, title="loss")["data"]
    assert {len(trace["x"]) for trace in traces} == {points, 2 * points}  # the curves and their bands
