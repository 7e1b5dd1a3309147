"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
let shown = [];
let drawing = 0;

function option(value, text) {
  const element = document.createElement("option");
  element.value = value;
  element.textContent = text ?? value;
  return element;
}

function unique(name) {
  return [...new Set(data.samples.map((sample) => sample[name]))].filter((value) => value).sort();
}

function brief(text) {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

// --- which samples -------------------------------------------------------------------------------------------------

function filter() {
  const before = at("sample").value;
  shown = data.samples.filter((sample) =>
    (!at("only-changed").checked || sample.changed) &&
    (!at("only-wrong").checked || sample.answers.some((answer) => answer.correct === false)) &&
    (!at("kind").value || sample.kind === at("kind").value) &&
    (!at("speed").value || sample.speed === at("speed").value) &&
    (!at("path").value || sample.path === at("path").value));
  at("sample").replaceChildren(...shown.map((sample) => option(sample.key, `${sample.scene}  ${brief(sample.truth)}`)));
  if (shown.some((sample) => sample.key === before)) at("sample").value = before;
  at("count").textContent = `${shown.length} of ${data.samples.length} samples`;
  show();
}

function move(step) {
  const select = at("sample");
  if (!shown.length) return;
  select.selectedIndex = (select.selectedIndex + step + shown.length) % shown.length;
  show();
}

function current() {
  return shown.find((sample) => sample.key === at("sample").value);
}

// --- one sample ----------------------------------------------------------------------------------------------------

function show() {
  const sample = current();
  at("samples").classList.toggle("empty", !sample);
  const body = at("answers").tBodies[0];
  if (!sample) {
    at("views").replaceChildren();
    body.replaceChildren();
    at("question").textContent = "No sample passes these filters.";
    return;
  }
  at("question").textContent = `${sample.question}  Truth: ${sample.truth} (convention ${sample.convention})`;
  body.replaceChildren(...sample.answers.map(answerRow));
  drawViews(sample);
}

function answerRow(answer) {
  const row = document.createElement("tr");
  const mean = answer.entering ? answer.entering.reduce((a, b) => a + b, 0) / answer.entering.length : null;
  const cells = [
    answer.condition,
    answer.error ?? answer.answer,
    answer.correct === null ? "-" : answer.correct ? "yes" : "no",
    answer.changed ? "yes" : "no",
    mean === null ? "-" : mean.toFixed(1),
    answer.complexity === null ? "-" : answer.complexity.toPrecision(3),
  ];
  cells.forEach((text, number) => {
    const cell = document.createElement(number ? "td" : "th");
    cell.textContent = text;
    if (number === 2 && answer.correct !== null) cell.className = answer.correct ? "right" : "wrong";
    row.append(cell);
  });
  return row;
}

// --- kept tokens: masks that were drawn before, laid over the images ---------------------------------------------------

function drawViews(sample) {
  const turn = ++drawing;
  const answer = sample.answers.find((entry) => entry.condition === at("condition").value);
  const layer = Number(at("layer").value);
  const mask = answer ? answer.mask : null;
  at("layer-number").textContent = layer;
  at("token-count").textContent = answer && answer.entering ? `${answer.entering[layer]} visual tokens` : "";
  at("kept-note").textContent = mask
    ? "Bright: patches that feed the kept tokens, by the adapter's absolute linear path. Merged tokens are not drawn."
    : data.appearance
      ? "Which tokens were kept was not recorded for this sample (see kept_samples)."
      : "Kept tokens cannot be drawn: appearance.json is absent. Run the same evaluation again to write it.";
  at("views").replaceChildren(...sample.views.map((view) => figureOf(view, mask, layer, () => turn === drawing)));
}

async function load(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

function figureOf(view, mask, layer, wanted) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = `${view.label} (${view.camera})`;
  figure.append(caption);
  if (view.picture.problem) {
    figure.append(view.picture.problem);
    return figure;
  }
  const { width, height, uri } = view.picture;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption.textContent);
  figure.append(canvas);
  Promise.all([load(uri), mask && load(mask.uri)]).then(([picture, strip]) => {
    if (!wanted()) return;
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    if (!mask) return;
    const [left, top, size] = view.picture.square;
    const side = data.appearance.side;
    const unseen = new Path2D();
    unseen.rect(0, 0, width, height);
    unseen.rect(left, top, size, size);
    context.fillStyle = "rgba(0, 0, 0, 0.75)";
    context.fill(unseen, "evenodd");
    context.imageSmoothingEnabled = false;
    context.drawImage(strip, view.number * side, mask.lines[layer] * side, side, side, left, top, size, size);
  });
  return figure;
}

// --- failures, each drawn when it is opened ----------------------------------------------------------------------------

function failureOf(failure) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = `${failure.condition}, ${failure.kind}, ${failure.scene}`;
  details.append(summary);
  for (const [name, text] of [["truth", failure.truth], ["unpruned", failure.unpruned], [failure.condition, failure.answer]]) {
    const line = document.createElement("p");
    line.textContent = `${name}: ${text}`;
    if (name === failure.condition) line.className = "wrong";
    details.append(line);
  }
  const views = document.createElement("div");
  views.className = "views";
  details.append(views);
  details.addEventListener("toggle", () => {
    if (!details.open || views.childElementCount) return;
    const sample = data.samples.find((one) => one.key === failure.sample);
    if (!sample) return views.append("Its images are not in this page (see --samples).");
    const answer = sample.answers.find((one) => one.condition === failure.condition);
    const mask = answer ? answer.mask : null;
    views.append(...sample.views.map((view) => figureOf(view, mask, Math.floor(data.layers / 2), () => true)));
    if (!mask) details.append("Which tokens were kept was not recorded for this sample (see kept_samples).");
  });
  return details;
}

if (at("failure-list")) {
  at("failure-list").append(...data.failures.map(failureOf));
  if (data.failures.length) at("failure-list").firstElementChild.open = true;
}

// --- tables: a click on a head sorts by its column, a second one the other way --------------------------------------------

function value(cell) {
  const text = cell ? cell.textContent.trim() : "";
  const found = text.match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/);
  return found ? [Number(found[0]), text] : [-Infinity, text];
}

for (const head of document.querySelectorAll("section table thead th")) {
  const sort = () => {
    const way = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const at = head.cellIndex;
    const rows = [...body.rows].map((row) => [at ? value(row.cells[at]) : [0, row.cells[0].textContent], row]);
    rows.sort(([a], [b]) => way * (a[0] - b[0] || a[1].localeCompare(b[1])) || 0);
    body.append(...rows.map(([, row]) => row));
  };
  head.tabIndex = 0;
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
}

// --- controls --------------------------------------------------------------------------------------------------------

at("kind").append(...unique("kind").map((name) => option(name)));
at("speed").append(...unique("speed").map((name) => option(name)));
at("path").append(...unique("path").map((name) => option(name)));
at("condition").append(...data.conditions.map((name) => option(name)));
at("condition").value = data.preferred;
at("layer").max = data.layers - 1;
at("layer").value = 1;
for (const id of ["only-changed", "only-wrong", "kind", "speed", "path"]) at(id).addEventListener("change", filter);
for (const id of ["sample", "condition"]) at(id).addEventListener("change", show);
at("layer").addEventListener("input", show);
at("previous").addEventListener("click", () => move(-1));
at("next").addEventListener("click", () => move(1));
at("filters").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") move(-1);
  if (event.key === "ArrowRight") move(1);
});
at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
filter();
