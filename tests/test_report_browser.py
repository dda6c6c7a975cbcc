"""The report in headless chromium, at two widths, light and dark."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from medsynth.report.data_page import SameImages, write_data_page
from medsynth.report.drawings import draw_images, write_table
from medsynth.report.page import write_report
from tests.run_folders import write_run, write_sweep

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["background-networking", "component-update", "sync", "gpu"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium was found")]

FAILURES = {
    3: ("diverged", "The loss was NaN."),
    5: ("failed", "data.root=/nowhere is not a folder."),
    10: ("killed", "killed by SIGKILL"),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    grid = {"loss": ["hinge", "non_saturating"], "backbone": ["mini", "resnet50"], "seed": [1, 2, 3]}
    write_sweep(folder / "sweep", grid, failures=FAILURES)
    run = write_run(folder / "run", options={"loss": "hinge"})
    _write_figures(run)
    write_run(folder / "other", options={"loss": "minimax", "data.image_size": 128})
    written = {name: write_report([folder / name], folder / f"{name}.html") for name in ("sweep", "run")}
    written["comparison"] = write_report([folder / "run", folder / "other"], folder / "comparison.html")
    return written | {"data": _data_page(folder)}


def _write_figures(run):
    """Write figures as the end of a training does, of numbers instead of images."""
    folder = run / "report"
    folder.mkdir()
    names = ("nearest", "embedding", "intensities", "spectrum", "classes")
    (folder / "figures.json").write_text(json.dumps({"figures": [{"name": name, "caption": name} for name in names]}))
    draw_images(folder, "nearest", [("generated", np.zeros((8, 1, 32, 32))), ("nearest 1", np.ones((8, 1, 32, 32)))])
    points = [{"set": kind, "class": "", "x": x, "y": x**2} for kind in ("real", "generated") for x in range(5)]
    lines = [{"from": x, "cycles": x, "real": 0.1 * (x + 1), "generated": 0.2} for x in range(8)]
    ends = {f"{name}{end}": 0.5 for name in ("precision", "recall") for end in ("", "_low", "_high")}
    tables = {"embedding": points, "intensities": lines, "spectrum": lines, "classes": [{"class": "glioma", **ends}]}
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)


def _data_page(folder):
    Image.new("L", (600, 200)).save(folder / "sheet.png")
    histogram = {"low": 0, "high": 255, "counts": list(range(1, 101)), "unit": "HU"}
    intensity = {"low": 0, "high": 255, "unit": "HU", "percent_below": 1.0, "percent_above": 2.0}
    record = {
        "description": "ImageFolder: 49 images, 2 classes, 5 patients",
        "images": {"train": 30, "val": 19},
        "classes": {"glioma": {"train": 20, "val": 10}, "none": {"train": 10, "val": 9}},
        "patients": {"train": 3, "val": 2, "all": 5},
        "shape": [1, 32, 32],
        "spacing": [0.5, 0.5],
        "sizes": {"48x48": 49},
        "intensity": {**intensity, "before": histogram, "after": histogram},
        "duplicates": {"exact": {"groups": 1, "images": 2, "groups_across_splits": 1, "dropped": 0, "first": []}},
    }
    same = SameImages(np.zeros((2, 1, 32, 32)), ("file 1", "file 2"), ("train", "val"))
    out = folder / "data.html"
    write_data_page(
        out, record, remarks=["few"], advice="small_data is better", sheet=folder / "sheet.png", same=[same]
    )
    return out


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox", *(f"--disable-{name}" for name in QUIET)]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, reports):
    """Return a function that opens a report; fail at the end if the page logged or loaded anything."""
    complaints, contexts = [], []

    def open_report(name, width=1600, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("http") and complaints.append(request.url))
        page.goto(reports[name].as_uri())
        page.wait_for_function("[...document.querySelectorAll('.plot')].some((plot) => plot.querySelector('svg'))")
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, place):
    return page.eval_on_selector_all(
        f"#jobs-table tbody td:nth-child({place})", "cells => cells.map(c => c.dataset.sort)"
    )


def numbers(page):
    return page.eval_on_selector_all("#jobs-table tbody tr:not([hidden]) th", "cells => cells.map(c => c.textContent)")


@pytest.mark.parametrize(("name", "fewest"), [("sweep", 7), ("run", 11), ("comparison", 5), ("data", 2)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_everything_is_drawn_and_nothing_overflows(opened, name, fewest, scheme, width):
    page = opened(name, width, scheme)
    plots = page.locator(".plot:visible")
    assert plots.count() >= fewest
    assert page.locator(".modebar-btn").count() > 0
    assert page.locator("[data-title*='loud'], .modebar-btn--logo").count() == 0, "no figure is sent anywhere"
    assert all(plot.locator("svg.main-svg").count() for plot in plots.all())
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    luminance = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (luminance > 200) == (scheme == "light")
    text = page.evaluate("document.querySelector('.plot').layout.font.color")
    assert text == ("#1b1f23" if scheme == "light" else "#e6e9ec")


def test_the_table_sorts_by_mouse_and_keyboard(opened):
    page = opened("sweep")
    head = page.locator("#jobs-table th", has_text="best fd_mini")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(value) for value in column(page, 7)]
    assert values[:9] == sorted(values[:9])
    assert set(numbers(page)[9:]) == {"3", "5", "10"}  # failed jobs stay at the end
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(page, 7)]
    assert values[:9] == sorted(values[:9], reverse=True)
    assert set(numbers(page)[9:]) == {"3", "5", "10"}
    page.locator("#jobs-table th", has_text="job").locator("button").press("Space")
    assert head.get_attribute("aria-sort") == "none"
    assert numbers(page) == ["0", "1", "2", "4", "6", "7", "8", "9", "11", "3", "5", "10"]


def test_the_table_is_filtered_by_text_and_factor(opened):
    page = opened("sweep")
    page.locator("#filter-text").fill("sigkill")
    assert numbers(page) == ["10"]
    assert page.locator("#rows-seen").text_content() == "1 of 12 jobs"
    page.locator("#filter-text").fill("")
    page.locator("select[data-filter='0']").select_option("hinge")
    assert numbers(page) == ["0", "1", "2", "3", "4", "5"]
    page.locator("select[data-filter='1']").select_option("mini")
    assert numbers(page) == ["0", "1", "2"]


def test_columns_can_be_selected(opened):
    page = opened("sweep")
    cells = page.locator("#jobs-table .column-0")
    assert cells.count() == 13
    assert cells.first.is_visible()
    page.locator("input[data-column='0']").press("Space")
    assert not cells.first.is_visible()


def test_curves_are_toggled_and_colored_by_factor(opened):
    page = opened("sweep")
    traces = "document.querySelector('#curves .plot').data"
    seen = f"{traces}.filter((t) => t.visible && !t.meta.band).length"
    bands = f"{traces}.filter((t) => t.visible && t.meta.band).length"
    colors = f"new Set({traces}.filter((t) => !t.meta.band).map((t) => t.line.color)).size"
    assert page.evaluate(seen) == 12
    assert page.evaluate(bands) == 0
    page.locator("#bands").check()
    assert page.evaluate(bands) == 12
    controls = page.locator("#curve-controls")
    controls.get_by_label("hinge").uncheck()
    assert page.evaluate(seen) == page.evaluate(bands) == 6
    assert page.locator("#curves-seen").text_content() == "6 of 12 jobs are shown."
    controls.get_by_label("none of seed").press("Enter")
    assert page.evaluate(seen) == 0
    controls.get_by_label("all of seed").click()
    controls.get_by_label("all of loss").click()
    assert page.evaluate(colors) == 2
    controls.get_by_role("radio", name="seed").check()
    assert page.evaluate(colors) == 3


def test_the_cost_can_be_selected(opened):
    page = opened("sweep")
    assert page.locator("[data-cost='seconds']").is_visible()
    page.locator("#cost").select_option("memory_gib")
    assert not page.locator("[data-cost='seconds']").is_visible()
    assert page.locator("[data-cost='memory_gib'] svg.main-svg").first.is_visible()


def test_samples_slide_by_keyboard_and_by_the_strip(opened):
    page = opened("run")
    slide, slider = page.locator("#slide"), page.locator("#slider")
    last = slide.get_attribute("src")
    slider.press("ArrowLeft")
    assert slide.get_attribute("src") != last
    assert page.locator("#slide-step").text_content() == "30,000"
    slider.press("Home")
    assert page.locator("#slide-step").text_content() == "10,000"
    assert slide.get_attribute("alt") == "Generated after 10,000 real images seen"
    page.locator("#frames button").last.press("Enter")
    assert slide.get_attribute("src") == last
    assert slider.input_value() == "3"


def test_the_result_is_on_the_first_screen(opened):
    page = opened("run")
    real = page.locator("#result img").first.bounding_box()
    assert real["y"] + real["height"] / 2 < 900


def test_the_winning_command_is_copied_or_selected_by_keyboard(opened):
    page = opened("sweep")
    button = page.locator("button[data-copy]")
    button.press("Enter")
    status = page.locator(".copy [role=status]")
    page.wait_for_function("document.querySelector('.copy [role=status]').textContent !== ''")
    assert status.text_content() in ("copied", "selected")
    assert page.evaluate("getSelection().toString()").startswith("python train.py")


def test_options_are_searched(opened):
    page = opened("run")
    page.locator("#configuration summary").press("Enter")
    page.locator("input[data-search]").fill("trainer precision")
    assert page.locator("#options tbody tr:visible").count() == 1
    assert "32-true" in page.locator("#options tbody tr:visible").text_content()


def test_the_keyboard_reaches_the_content_first(opened):
    page = opened("sweep")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_it_prints_in_the_light_theme_without_controls(opened, tmp_path):
    page = opened("sweep", scheme="dark")
    page.emulate_media(media="print")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
