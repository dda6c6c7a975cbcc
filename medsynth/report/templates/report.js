"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);

  // Figures: fonts and grids follow the reader's theme; printed pages are always light.
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const plots = all(".plot");
  let printing = false;

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const variable = (name) => style.getPropertyValue(name).trim();
    const [text, line] = printing ? ["#000000", "#bbbbbb"] : [variable("--text"), variable("--line")];
    const axis = { gridcolor: line, zeroline: false, linecolor: line, automargin: true, tickcolor: line };
    const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", ...layout.legend };
    const annotations = layout.annotations?.map((note) => ({ ...note, bgcolor: printing ? "#ffffff" : variable("--ground") }));
    const axes = Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name));
    const drawn = Object.fromEntries(["xaxis", "yaxis", ...axes].map((name) => (
      [name, { ...axis, ...layout[name], title: { standoff: 8, ...layout[name]?.title } }])));
    return {
      ...layout, ...drawn, legend, annotations, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, size: 12, family: getComputedStyle(document.body).fontFamily },
    };
  }

  const settings = {
    responsive: true, displaylogo: false, showSendToCloud: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "pan2d", "zoom2d", "autoScale2d"],
  };
  function draw(plot) {
    const figure = data.figures[plot.dataset.figure];
    if (plot.closest("[hidden]")) return;
    Plotly.react(plot, figure.data, themed(figure.layout), settings);
  }
  const drawAll = () => plots.forEach(draw);
  scheme.addEventListener("change", drawAll);
  for (const event of ["beforeprint", "afterprint"]) {
    addEventListener(event, () => { printing = event === "beforeprint"; drawAll(); });
  }

  // Curves of a sweep: which jobs are visible, and by which factor they are colored.
  const curveControls = one("#curve-controls");
  const dashArrays = { solid: "", dash: "6 3", dot: "2 3", dashdot: "7 3 2 3", longdash: "9 3", longdashdot: "9 3 2 3" };
  const color = (place) => data.colors[place % data.colors.length];
  const dash = (place) => data.dashes[place % data.dashes.length];

  function restyle() {
    const factor = Number(new FormData(curveControls).get("color"));
    const boxes = all("input[data-factor]", curveControls);
    const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => `${box.dataset.factor}/${box.dataset.value}`));
    const bands = one("#bands").checked;
    boxes.forEach((box) => {
      const swatch = box.parentElement.querySelector(".swatch");
      swatch.toggleAttribute("hidden", Number(box.dataset.factor) !== factor);
      swatch.firstElementChild.setAttribute("stroke", color(Number(box.dataset.value)));
      swatch.firstElementChild.setAttribute("stroke-dasharray", dashArrays[dash(Number(box.dataset.value))]);
    });
    let seen = 0;
    data.jobs.forEach((job) => {
      job.seen = job.values.every((value, place) => !hidden.has(`${place}/${value}`));
      seen += job.seen;
    });
    for (const plot of plots.filter((candidate) => candidate.closest("#curves"))) {
      for (const trace of data.figures[plot.dataset.figure].data) {
        const job = data.jobs[trace.meta.job], place = job.values[factor];
        trace.visible = job.seen && (bands || !trace.meta.band);
        if (trace.meta.band) trace.fillcolor = `${color(place)}2b`;
        else {
          trace.line = { ...trace.line, color: color(place), dash: dash(place) };
          trace.marker = { ...trace.marker, color: color(place) };
        }
      }
      draw(plot);
    }
    one("#curves-seen").textContent = `${seen} of ${data.jobs.length} ${one("#jobs-table").dataset.noun}s are shown.`;
  }

  // Tables: numbers are sorted as numbers; rows without a value, such as failed jobs, stay at the end.
  function sort(table, column, ascending) {
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const rows = [...body.rows].map((row) => ({ row, key: key(row), broken: row.classList.contains("broken") }));
    const numeric = rows.every(({ key }) => key === "" || Number.isFinite(Number(key)));
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
    rows.sort((a, b) => a.broken - b.broken || (a.key === "") - (b.key === "")
      || (ascending ? compare(a.key, b.key) : compare(b.key, a.key)));
    body.append(...rows.map(({ row }) => row));
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      if (head.hasAttribute("aria-sort")) {
        head.setAttribute("aria-sort", place !== column ? "none" : ascending ? "ascending" : "descending");
      }
    });
  }
  all("th[aria-sort]").forEach((head) => head.querySelector("button").addEventListener("click", () => {
    sort(head.closest("table"), head.cellIndex, head.getAttribute("aria-sort") !== "ascending");
  }));

  function filter() {
    const words = one("#filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = all("select[data-filter]").filter((select) => select.value !== "");
    const rows = all("#jobs-table tbody tr");
    let seen = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = (select) => row.dataset[`f${select.dataset.filter}`] === select.value;
      row.hidden = !(words.every((word) => text.includes(word)) && chosen.every(fits));
      seen += !row.hidden;
    }
    one("#rows-seen").textContent = `${seen} of ${rows.length} ${one("#jobs-table").dataset.noun}s`;
  }
  function searchOptions(input) {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = all(`#${input.dataset.search} tbody tr`);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    one(`#${input.dataset.search}-found`).textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  }

  // Samples by images seen.
  function show(place) {
    const buttons = all("#frames button"), button = buttons[place];
    const picture = button.querySelector("img"), slide = one("#slide");
    slide.src = picture.src;
    slide.alt = picture.alt;
    one("#slide-step").textContent = button.dataset.step;
    one("#slider").value = place;
    one("#slider").setAttribute("aria-valuetext", `${button.dataset.step} real images seen`);
    buttons.forEach((other) => other.toggleAttribute("aria-current", false));
    button.setAttribute("aria-current", "true");
  }

  drawAll();
  if (curveControls) {
    curveControls.addEventListener("change", restyle);
    all("button[data-all]", curveControls).forEach((button) => button.addEventListener("click", () => {
      all("input[data-factor]", button.closest("fieldset")).forEach((box) => { box.checked = button.dataset.all === "1"; });
      restyle();
    }));
    restyle();
  }
  const jobs = one("#jobs-table");
  if (jobs) {
    one("#filter-text").addEventListener("input", filter);
    all("select[data-filter]").forEach((select) => select.addEventListener("change", filter));
    all("input[data-column]").forEach((box) => box.addEventListener("change", () => {
      all(`.column-${box.dataset.column}`, jobs).forEach((cell) => { cell.hidden = !box.checked; });
    }));
    filter();
  }
  all("button[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy), said = button.parentElement.querySelector("[role=status]");
    getSelection().selectAllChildren(text);  // what can be copied by hand where the browser does not allow more
    said.textContent = await navigator.clipboard?.writeText(text.textContent).then(() => "copied", () => "selected") ?? "selected";
  }));
  all("input[data-search]").forEach((input) => input.addEventListener("input", () => searchOptions(input)));
  const slider = one("#slider");
  if (slider) {
    slider.addEventListener("input", () => show(Number(slider.value)));
    all("#frames button").forEach((button) => button.addEventListener("click", () => show(Number(button.dataset.frame))));
    show(Number(slider.max));
  }
  const cost = one("#cost");
  if (cost) {
    const choose = () => all("[data-cost]").forEach((part) => {
      part.hidden = part.dataset.cost !== cost.value;
      all(".plot", part).forEach(draw);
    });
    cost.addEventListener("change", choose);
    choose();
  }

  // A live view asks its server, which runs on this machine, whether files have changed.
  if ("live" in document.body.dataset) {
    let known = null;
    setInterval(async () => {
      const version = await fetch("version").then((response) => response.text(), () => known);
      if (known !== null && version !== known) location.reload();
      known = version;
    }, 3000);
  }
})();
