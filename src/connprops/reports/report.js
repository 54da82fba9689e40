"use strict";
// The report's program. All text from the data goes into the page as text nodes, never as HTML.

const index = JSON.parse(document.getElementById("index").textContent);
const byId = (id) => document.getElementById(id);
const nTargets = index.targets.length;
const chunks = new Map(); // promises of what is unpacked, by the id of its element
const views = new Map(); // Vega views, by the id of their element
const state = { property: 0, statistic: null, pathway: null, kept: null, sort: "sure", down: true, shown: 25 };
let drawing = 0; // number of the last request to draw the maps: later ones overtake earlier ones
let opening = 0;

// ---- small helpers

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function text(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

const cellClass = (value, isNumber) =>
  isNumber ? "number" : text(value).length > 16 ? "text" : null; // only long text may wrap

function table(caption, heads, rows, sorted = () => null) {
  const numeric = heads.map((_, i) => rows.some((row) => typeof row[i] === "number"));
  const cell = (value, i) =>
    value instanceof Node
      ? element("td", {}, value)
      : element("td", { class: cellClass(value, numeric[i]) }, text(value));
  return element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head, i) =>
      element("th", { scope: "col", class: numeric[i] ? "number" : null,
        "aria-sort": sorted(i) }, head)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))));
}

function fail(error) {
  const box = byId("failure");
  box.textContent = `The report could not be drawn: ${error.message}`;
  box.hidden = false;
  console.error(error);
}

const source = (pathway) => index.sources[Math.floor(pathway / nTargets)];
const target = (pathway) => index.targets[pathway % nTargets];
const arrow = (pathway) => `${source(pathway)} → ${target(pathway)}`;

// ---- data: each property is packed on its own, and unpacked when it is first looked at

async function unpack(id) {
  const packed = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const chunk = JSON.parse(await new Response(stream).text());
  const parts = chunk.pathway ? [chunk] : [chunk.statistics, chunk.histograms, chunk.quantiles, chunk.model];
  for (const part of parts) {
    let last = 0; // pathways are given by their distance from the one before
    part.pathway = part.pathway.map((step) => (last += step));
    part.at = new Map(part.pathway.map((pathway, row) => [pathway, row]));
  }
  return chunk;
}

function unpacked(id) {
  if (!chunks.has(id)) chunks.set(id, unpack(id));
  return chunks.get(id);
}

const property = (number) => unpacked(`property-${number}`);

const pick = (part, column, pathway) => {
  const row = part.at.get(pathway);
  return row === undefined || !part[column] ? null : part[column][row];
};

// ---- charts

async function draw(id, spec, renderer = "svg") {
  const place = byId(id);
  views.get(id)?.finalize();
  views.delete(id);
  if (spec === null) {
    place.replaceChildren();
    return null;
  }
  const { view } = await vegaEmbed(place, spec, {
    mode: "vega-lite", renderer, ast: true, hover: false,
    actions: { export: true, source: false, compiled: false, editor: false },
  });
  views.set(id, view);
  return view;
}

const dark = () => document.documentElement.dataset.theme === "dark";
const inTheme = (name) => structuredClone(index.specs[dark() ? "dark" : "light"][name]);

function ofProperty(chart, about, title, rows) {
  // Specifications of charts are the same for all properties, but for the axes' titles.
  const spec = inTheme(`${chart} ${about.values}`);
  for (const { encoding } of spec.layer) {
    for (const axis of [encoding.x, encoding.y]) {
      if (axis?.title) axis.title = axis.title.replace("property (unit)", () => about.axis);
      if (about.labels && axis?.bin === "binned") { // the values are codes
        const labelExpr = `${JSON.stringify(about.labels)}[datum.value]`;
        axis.axis = { ...axis.axis, values: about.labels.map((_, code) => code), labelExpr };
      }
    }
  }
  spec.description = `${title}${spec.description}`;
  return { ...spec, title, datasets: { ...spec.datasets, ...rows } };
}

// How sure a cell is: faded where few values tell, striped where the model is borrowed.
function sureness(chunk, side, pathway) {
  const level = pick(chunk.model, "level", pathway);
  const n = pick(chunk.statistics, "n", pathway);
  const borrowed = side !== "data" && level !== null && level >= 0;
  const few = !borrowed && n !== null && n < index.enough;
  const std = pick(side === "data" ? chunk.statistics : chunk.model, "std", pathway);
  const tips = { values: n ?? 0, std: text(std), from: borrowed ? index.levels[level + 1] : "own values" };
  const ends = ["low", "high"].map((end) => chunk.model[end]?.mean?.[chunk.model.at.get(pathway)] ?? null);
  if (side !== "data" && !ends.includes(null)) tips.interval = `${text(ends[0])} to ${text(ends[1])}`;
  return { tips, borrowed, opacity: few ? 0.45 : 1 };
}

const stripes = (spec, size) => ({
  data: { name: "borrowed" },
  mark: { type: "point", shape: "M-1,1L1,-1", strokeWidth: 1.2, stroke: "#ffffff", opacity: 0.85,
    size: 0.4 * size ** 2, clip: true, tooltip: null },
  encoding: Object.fromEntries(["x", "y"].map((axis) => [axis, spec.layer[0].encoding[axis]])),
});

function mapSpec(drawn, values, sure = null) {
  // A map's specification comes whole from Altair, but for its rows, scale, legend and title.
  const spec = inTheme(drawn.kind);
  const cells = [];
  const missing = [];
  for (let pathway = 0; pathway < index.sources.length * nTargets; pathway += 1) {
    const row = { source_type: source(pathway), target_type: target(pathway) };
    const value = values(pathway);
    if (value === null || value === undefined) missing.push(row);
    else {
      const { tips = {}, borrowed = false, opacity = 1 } = sure ? sure(pathway) : {};
      cells.push({ ...row, value, pathway, opacity, borrowed, ...tips });
    }
  }
  const borrowed = cells.filter((each) => each.borrowed);
  spec.datasets = { ...spec.datasets, cells, missing, borrowed };
  if (!missing.length) spec.layer = spec.layer.filter((layer) => layer.data?.name !== "missing");
  const layer = spec.layer.find((each) => each.data?.name === "cells");
  const colour = layer.encoding.color;
  if (drawn.scale) {
    colour.scale = { ...drawn.scale };
    if (drawn.scale.range) colour.scale.range = index.diverging[dark() ? "dark" : "light"];
    colour.legend = { ...colour.legend, title: drawn.legend };
    if (drawn.ticks) colour.legend.values = drawn.ticks;
  }
  layer.encoding.tooltip.find((each) => each.field === "value").title = drawn.legend;
  if (sure) {
    layer.encoding.opacity = { field: "opacity", type: "quantitative", scale: null, legend: null };
    for (const [field, title] of [["values", "values"], ["std", "standard deviation"],
      ["interval", "95 % interval of the mean"], ["from", "from"]]) {
      if (cells.some((each) => field in each)) layer.encoding.tooltip.push({ field, title, type: "nominal" });
    }
    const step = Math.min(spec.width.step, spec.height.step);
    if (borrowed.length) spec.layer.splice(spec.layer.indexOf(layer) + 1, 0, stripes(spec, step));
  }
  spec.title = { text: drawn.title, subtitle: drawn.note };
  spec.description = `${drawn.title}. Sources are rows, targets columns. ${drawn.note}`;
  return spec;
}

function highlight() {
  for (const id of ["map-data", "map-model"]) {
    const view = views.get(id);
    if (!view || state.pathway === null) continue;
    view.signal("chosen_source", source(state.pathway)).signal("chosen_target", target(state.pathway));
    view.runAsync();
  }
}

async function drawMap(id, spec) {
  const view = await draw(id, spec, "canvas");
  view?.addEventListener("click", (event, item) => {
    const { source_type, target_type } = item?.datum ?? {};
    if (index.sources.includes(source_type) && index.targets.includes(target_type)) {
      open(index.sources.indexOf(source_type) * nTargets + index.targets.indexOf(target_type));
    }
  });
}

// ---- correlations of the property with others, each as if it were a statistic

function correlatedWith(name) {
  return index.correlated.flatMap(([a, b], pair) => {
    const other = a === name ? b : b === name ? a : null;
    return other === null ? [] : [{ name: `correlation ${pair}`, label: `correlation with ${other}`, other, pair }];
  });
}

function offerStatistics() {
  const about = index.properties[state.property];
  const ofNumbers = [...index.moments, "skewness", "kurtosis", "wasserstein"];
  const offered = index.statistics.filter(({ name }) => !about.labels || !ofNumbers.includes(name));
  const all = [...offered, ...correlatedWith(about.name)];
  if (!all.some((each) => each.name === state.statistic)) state.statistic = all[0].name;
  options("statistic", all.map((each) => each.label), all.map((each) => each.name));
  byId("statistic").value = state.statistic;
}

async function drawCorrelationMap({ name, other, pair }, about, number) {
  const { map, value, at } = await unpacked("correlations");
  if (number !== drawing) return;
  byId("comparison").hidden = true;
  byId("meaning").textContent = "correlation: of two properties of a pathway, from -1 to 1, in the copula of the model.";
  const title = `Correlation of ${about.name} and ${other}`;
  await drawMap("map-data", mapSpec({ ...map, title }, (pathway) => value[pair][at.get(pathway)]));
  await drawMap("map-model", null);
  highlight();
  document.documentElement.dataset.drawn = `${about.name} ${name}`;
}

async function drawMaps() {
  const number = ++drawing;
  const about = index.properties[state.property];
  const chunk = await property(state.property);
  if (number !== drawing) return;
  const correlation = correlatedWith(about.name).find((each) => each.name === state.statistic);
  if (correlation) {
    await drawCorrelationMap(correlation, about, number);
    return;
  }
  const statistic = index.statistics.find((each) => each.name === state.statistic);
  const { data, model, difference } = chunk.maps[statistic.name];
  const comparable = Boolean(data && model);
  byId("comparison").hidden = !comparable;
  byId("meaning").textContent = statistic.meaning;
  const value = {
    data: (pathway) => pick(chunk.statistics, statistic.name, pathway),
    model: (pathway) => pick(chunk.model, statistic.name, pathway),
  };
  const words = (of) => (pathway) => {
    const recorded = of(pathway);
    if (statistic.name === "level") return recorded === null ? null : index.levels[recorded + 1];
    if (recorded === null && chunk.statistics.at.has(pathway) && of === value.data) return index.shared[2];
    return recorded === null ? null : index.shared[recorded ? 0 : 1];
  };
  const shown = (side) => (statistic.kind === "category" ? words(value[side]) : value[side]);
  const specs = [];
  const sure = (side) => (pathway) => sureness(chunk, side, pathway);
  if (data) specs.push(mapSpec(data, shown("data"), sure("data")));
  const other = byId("comparison").querySelector("input:checked").value;
  if (comparable && other === "difference") {
    specs.push(mapSpec(difference, (pathway) => {
      const [a, b] = [value.data(pathway), value.model(pathway)];
      if (a === null || b === null) return null;
      if (statistic.kind !== "category") return b - a;
      return index.agreement[a === b ? 0 : b ? 1 : 2];
    }, sure("difference")));
  } else if (model) specs.push(mapSpec(model, shown("model"), sure("model")));
  await drawMap("map-data", specs[0]);
  await drawMap("map-model", specs[1] ?? null);
  byId("marks").textContent =
    `Faded: fewer than ${index.enough} values. Striped: no data, borrowed from similar pathways.`;
  byId("sql-map").textContent = mapQuery(about.name, statistic.name);
  remember();
  highlight();
  document.documentElement.dataset.drawn = `${about.name} ${statistic.name}`;
}

// ---- SQL of what is seen, for connprops sql RUN "..."

const quoted = (name) => `'${name.replaceAll("'", "''")}'`;

function mapQuery(name, statistic) {
  const relation = ["misfit", "wasserstein", "level"].includes(statistic) ? "fits" : "statistics";
  const column = statistic === "misfit" ? "ks * sqrt(n) as misfit" : `"${statistic}"`;
  return [`select source_type, target_type, ${column}`, `from ${relation}`,
    `where property = ${quoted(name)}`, "order by source_type, target_type"].join("\n");
}

function pathwayQuery(name, pathway) {
  const ends = `${quoted(source(pathway))}, ${quoted(target(pathway))}`;
  return [`-- the model`, `from model_of(${ends})`, `where property = ${quoted(name)};`, "",
    "-- the data", "from statistics", `where (source_type, target_type) = (${ends})`,
    `  and property = ${quoted(name)};`].join("\n");
}

// ---- links: what is seen stands in the address

function remember() {
  if (state.pathway === null) return;
  const seen = { property: index.properties[state.property].name, statistic: state.statistic,
    source: source(state.pathway), target: target(state.pathway) };
  if (state.kept !== null) Object.assign(seen, { besideSource: source(state.kept), besideTarget: target(state.kept) });
  const hash = `#${new URLSearchParams(seen)}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

function asked() {
  const params = new URLSearchParams(location.hash.slice(1));
  const pathway = (from, to) => {
    const ends = [index.sources.indexOf(params.get(from)), index.targets.indexOf(params.get(to))];
    return ends.includes(-1) ? null : ends[0] * nTargets + ends[1];
  };
  const property = index.properties.findIndex((each) => each.name === params.get("property"));
  return { property: Math.max(property, 0), statistic: params.get("statistic"),
    pathway: pathway("source", "target") ?? index.first, kept: pathway("besideSource", "besideTarget") };
}

// ---- search

function search(words) {
  const [from, to] = words.toLowerCase().split(/→|->|\bto\b/);
  const tokens = (part) => (part ?? "").split(/[\s,]+/).filter(Boolean);
  const has = (name, parts) => parts.every((part) => name.toLowerCase().includes(part));
  const found = [];
  for (let pathway = 0; pathway < index.sources.length * nTargets; pathway += 1) {
    const fits = to === undefined
      ? has(arrow(pathway), tokens(from))
      : has(source(pathway), tokens(from)) && has(target(pathway), tokens(to));
    if (fits) found.push(pathway);
  }
  return found;
}

function showFound() {
  const words = byId("search").value.trim();
  const found = words ? search(words) : [];
  const buttons = found.slice(0, 12).map((pathway) => element("button", { type: "button",
    onclick: () => open(pathway).catch(fail) }, arrow(pathway)));
  const rest = found.length - buttons.length;
  byId("found").replaceChildren(...buttons,
    ...(words && !found.length ? ["No such pathway."] : rest > 0 ? [`and ${text(rest)} more`] : []));
  return found;
}

// ---- one pathway

function binRows(chunk, pathway) {
  const counts = pick(chunk.histograms, "count", pathway);
  if (!counts) { // what the model alone says: shares of values
    const curve = chunk.curves[pick(chunk.model, "curve", pathway)];
    return curve ? curve.share.map((expected, i) => ({
      left: curve.edges[0] + i * curve.width, right: curve.edges[0] + (i + 1) * curve.width,
      count: 0, expected })) : null;
  }
  const ends = pick(chunk.histograms, "edges", pathway);
  const width = pick(chunk.histograms, "width", pathway);
  const edge = (i) =>
    width === null ? ends[i] : i === counts.length ? ends[1] : ends[0] + width * i;
  const expected = pick(chunk.histograms, "expected", pathway);
  return counts.map((count, i) => ({
    left: edge(i), right: edge(i + 1), count, expected: expected ? expected[i] : null,
  }));
}

function pointRows(chunk, pathway) {
  const quantiles = pick(chunk.quantiles, "data", pathway);
  const fitted = pick(chunk.quantiles, "model", pathway);
  if (!chunk.quantiles.pathway.length && chunk.statistics.at.has(pathway)) {
    // The report of a large circuit has no quantiles but those of the statistics.
    const points = Object.entries(index.quantiles).map(([name, p]) => ({
      p, data: pick(chunk.statistics, name, pathway), model: pick(chunk.model, name, pathway) }));
    return points.every(({ data, model }) => data !== null && model !== null) ? points : null;
  }
  if (!quantiles) return null;
  const m = quantiles.length;
  return quantiles.map((data, i) => ({ p: (i + 0.5) / m, data, model: fitted[i] }));
}

async function drawCorrelations(pathway) {
  if (!byId("correlations")) return; // the model has none
  const { pairs: names, value, std_error, at } = await unpacked("correlations");
  const row = at.get(pathway);
  const pairs = names.flatMap(([property, other_property], i) => {
    const rest = { r: value[i][row] ?? null, std_error: std_error[i][row] ?? null };
    return rest.r === null ? [] : [{ property, other_property, ...rest },
      { property: other_property, other_property: property, ...rest }];
  });
  const spec = inTheme("correlations");
  await draw("correlation-chart",
    pairs.length ? { ...spec, datasets: { ...spec.datasets, pairs } } : null);
}

function interval(model, name, pathway) {
  const [low, high] = ["low", "high"].map((end) => model[end][name][model.at.get(pathway)] ?? null);
  return low === null && high === null ? null : `${text(low)} to ${text(high)}`;
}

// Axes of values that are all the same have one tick, which says them in full: 0.2 is not "0".
function atPoint(points, spec) {
  const numbers = points.flatMap(({ data, model }) => [data, model]);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  if (high - low > 1e-6 * Math.max(Math.abs(low), Math.abs(high))) return spec;
  const half = Math.abs(low) / 2 || 1;
  for (const { encoding } of spec.layer) {
    for (const axis of [encoding.x, encoding.y]) {
      axis.scale = { domain: [low - half, low + half], nice: false };
      axis.axis = { values: [low], format: ".4~g" };
    }
  }
  return spec;
}

async function drawHistogram(id, about, chunk, pathway) {
  const bins = binRows(chunk, pathway);
  const spec = bins && ofProperty("histogram", about, `${about.name}: ${arrow(pathway)}`, { bins });
  if (spec && !chunk.histograms.at.has(pathway)) {
    for (const { encoding } of spec.layer) {
      Object.assign(encoding.y, { title: "share of values, by the model (1)", axis: {} });
    }
  }
  await draw(id, spec);
}

function parameterRows(chunk, about, pathway) {
  const model = chunk.model;
  const rows = [];
  for (const [name, column] of Object.entries(model.parameters)) {
    const value = column[model.at.get(pathway)];
    if (value === null || value === undefined) continue;
    const { unit, meaning } = index.parameters[pick(model, "distribution", pathway)]?.[name] ?? {};
    const error = model.errors[name][model.at.get(pathway)];
    const listed = Array.isArray(value);
    const word = (v) => (name === "val" && about.labels ? about.labels[v] : v);
    rows.push([
      name,
      listed ? value.map((v) => text(word(v))).join(", ") + (value.length < index.listed ? "" : ", …") : word(value),
      listed ? null : error,
      listed ? null : interval(model, name, pathway),
      unit === "property" ? about.unit : unit ?? null,
      meaning ?? null,
    ]);
  }
  return rows;
}

function verdict(chunk, pathway) {
  const row = chunk.model.at.get(pathway);
  const n = pick(chunk.statistics, "n", pathway);
  const data = n === null ? "No data." : `${text(n)} values.`;
  if (row === undefined) return `${data} No model.`;
  const level = chunk.model.level[row];
  const name = pick(chunk.model, "distribution", pathway);
  const pooled = pick(chunk.model, "n_pathways", pathway);
  const from = level < 0
    ? `fitted to these values${index.properties[state.property].leans ? " and to similar pathways" : ""}`
    : `borrowed from level ${level}${pooled ? `, ${text(pooled)} pathway${pooled === 1 ? "" : "s"}` : ""} (${index.borrowed[level]})`;
  const message = pick(chunk.model, "message", pathway);
  const status = pick(chunk.model, "status", pathway);
  const trouble = status && status !== "ok" ? ` ${status}: ${message ?? ""}` : "";
  return `${data} Model: ${name}, ${from}.${trouble}`;
}

async function open(pathway, { focus = false } = {}) {
  const number = ++opening;
  state.pathway = pathway;
  byId("source").value = String(Math.floor(pathway / nTargets));
  byId("target").value = String(pathway % nTargets);
  const about = index.properties[state.property];
  const chunk = await property(state.property);
  if (number !== opening) return;
  byId("pathway-heading").textContent = `Pathway ${arrow(pathway)}, ${about.name}`;
  byId("verdict").textContent = verdict(chunk, pathway);
  const unit = about.unit || "unit unknown";
  const beside = state.kept !== null && state.kept !== pathway ? state.kept : null;
  const { statistics, model } = chunk;
  byId("parameters").replaceChildren(table(
    `Parameters of ${pick(model, "distribution", pathway) ?? "the model"}`,
    ["parameter", "value", "standard error", "95 % interval", "unit", "meaning"],
    parameterRows(chunk, about, pathway)));
  byId("moments").replaceChildren(about.labels ? "" : table(
    `Statistics (${unit})`,
    ["statistic", "data", "model", ...(beside === null ? [] : [`data of ${arrow(beside)}`, "its model"])],
    [...index.moments.map((name) => [
      name, ...[pathway, ...(beside === null ? [] : [beside])].flatMap((each) => [
        pick(statistics, name, each), pick(model, name, each)])]),
    ["n", ...[pathway, ...(beside === null ? [] : [beside])].flatMap((each) => [
      pick(statistics, "n", each) ?? 0, null])]]));
  byId("goodness").replaceChildren(table(
    pick(model, "level", pathway) < 0 ? "Goodness of fit" : "Goodness of fit to the pooled values",
    ["measure", "value"],
    index.measures.map(({ name, label }) => [
      label.replace("unit of the property", () => unit), pick(model, name, pathway)])));
  await drawHistogram("histogram", about, chunk, pathway);
  if (beside === null) await draw("histogram-kept", null);
  else await drawHistogram("histogram-kept", about, chunk, beside);
  const points = about.labels ? null : pointRows(chunk, pathway);
  await draw("qq", points && atPoint(points, ofProperty("qq", about, "Quantiles", { points })));
  await drawCorrelations(pathway);
  byId("keep").textContent = state.kept === null ? "Keep beside" : `Drop ${arrow(state.kept)}`;
  byId("keep").setAttribute("aria-pressed", String(state.kept !== null));
  byId("sql-pathway").textContent = pathwayQuery(about.name, pathway);
  remember();
  highlight();
  markChosen();
  if (focus) byId("pathway-heading").focus();
  document.documentElement.dataset.opened = `${about.name} ${arrow(pathway)}`;
}

// ---- worst fits

function markChosen() {
  document.querySelectorAll("#worst tbody tr").forEach((row) => row.classList.toggle("chosen",
    row.dataset.pathway === String(state.pathway) && row.dataset.property === String(state.property)));
}

const columns = [
  ["pathway", "pathway"], ["property", "property"], ["distribution", "distribution"],
  ["n", "values"], ["sure", "KS times root n"], ["ks", "KS distance"], ["wasserstein", "Wasserstein"],
  ["mean", "mean, data"], ["model_mean", "mean, model"], ["std", "std, data"],
  ["model_std", "std, model"], ["status", "status"],
];

const enough = (row) => row.n === null || row.n >= Number(byId("least").value);

async function worstRows() {
  if (byId("scope").value === "all") {
    const worst = index.worst;
    return worst.pathway.map((pathway, i) => Object.fromEntries(
      Object.entries(worst).map(([name, column]) => [name, column[i]]))).filter(enough);
  }
  const { model, statistics } = await property(state.property);
  return model.pathway.map((pathway, i) => ({
    pathway, property: state.property, distribution: model.distribution[i], level: model.level[i],
    n: model.n[i], ks: model.ks[i],
    sure: model.ks[i] === null ? null : model.ks[i] * Math.sqrt(model.n[i]), wasserstein: model.wasserstein[i],
    mean: pick(statistics, "mean", pathway), model_mean: model.mean[i],
    std: pick(statistics, "std", pathway), model_std: model.std[i], status: model.status[i],
  })).filter((row) => row.level < 0 && enough(row));
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1; // what is not known comes last, either way
  if (b === null || b === undefined) return -1;
  const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return state.down ? -order : order;
}

async function drawWorst() {
  const rows = await worstRows();
  const value = (row) => state.sort === "pathway" ? arrow(row.pathway)
    : state.sort === "property" ? index.properties[row.property].name : row[state.sort];
  rows.sort((a, b) => compare(value(a), value(b)) || a.pathway - b.pathway);
  const visible = rows.slice(0, state.shown);
  const heads = columns.map(([name, label]) => element("button", {
    type: "button",
    onclick: () => {
      state.down = state.sort === name ? !state.down : !["pathway", "property", "distribution"].includes(name);
      state.sort = name;
      drawWorst().catch(fail);
    },
  }, label));
  const cells = visible.map((row) => columns.map(([name]) => {
    if (name === "property") return index.properties[row.property].name;
    if (name !== "pathway") return row[name];
    return element("button", {
      type: "button",
      onclick: async () => {
        if (row.property !== state.property) await choose(row.property);
        await open(row.pathway, { focus: true });
        byId("pathway").scrollIntoView({ block: "start" });
      },
    }, arrow(row.pathway));
  }));
  const drawn = table(
    `${text(visible.length)} of ${text(rows.length)} fits`, heads, cells,
    (i) => (columns[i][0] !== state.sort ? "none" : state.down ? "descending" : "ascending"));
  drawn.querySelectorAll("tbody tr").forEach((tr, i) => {
    tr.dataset.pathway = visible[i].pathway;
    tr.dataset.property = visible[i].property;
  });
  byId("worst").replaceChildren(drawn);
  markChosen();
  byId("more").hidden = visible.length === rows.length;
}

// ---- the page

async function choose(number) {
  state.property = number;
  byId("property").value = String(number);
  offerStatistics();
  await drawMaps();
  if (state.pathway !== null) await open(state.pathway);
  state.shown = 25;
  await drawWorst();
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  const button = byId("theme");
  button.textContent = name === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-pressed", String(name === "dark"));
}

async function show({ property: number, statistic, pathway, kept }) {
  Object.assign(state, { property: number, statistic, pathway, kept });
  await choose(number);
}

async function copy(button, words) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = "Copied";
  } catch { // a page from a file may not: select it, or show it
    button.textContent = "Press Ctrl+C";
    const area = element("textarea", { readonly: true, "aria-label": "to copy" }, words);
    button.after(area);
    area.select();
    area.addEventListener("blur", () => area.remove());
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

async function redraw() {
  await drawMaps();
  if (state.pathway !== null) await open(state.pathway);
}

function setUpOverview() {
  byId("identity").textContent = index.identity;
  byId("counts").replaceChildren(...index.counts.map(([label, count]) => element(
    "div", {}, element("dt", {}, label), element("dd", {}, text(count)))));
  byId("warnings").replaceChildren(...index.warnings.map((each) => element("li", {}, each)));
  byId("properties").replaceChildren(table(
    "Properties", ["property", "unit", "pathways", "distribution (pathways)", "pathways that rest on", "rejected", "values left out in 90 % range"],
    index.properties.map((each, number) => [
      element("button", { type: "button", onclick: () => choose(number).catch(fail) }, each.name),
      each.unit || "unknown", each.n_pathways,
      each.distributions.map(([name, count]) => `${name} (${text(count)})`).join(", "), each.rests,
      each.p_small === null ? each.rejected : `${each.rejected}; p up to 0.05: ${text(each.p_small)}`,
      each.coverage === null ? "" : `${(100 * each.coverage).toFixed(0)} %`])));
  byId("words").replaceChildren(...index.words.map((each) => element("p", {}, each)));
  byId("classes").replaceChildren(index.classes
    ? table("Connections between classes", index.classes.heads, index.classes.rows) : "");
  if (index.classes) byId("classes").append(element("p", { class: "quiet" }, index.classes.caveat));
  byId("expected").replaceChildren(index.expected
    ? table("Against expected means", index.expected.heads, index.expected.rows) : "");
  byId("facts").hidden = !index.facts.length;
  byId("facts").replaceChildren(table("Run", ["fact", "value"],
    index.facts.map(([name, value]) => [name, text(value)])));
  byId("detail").textContent = index.detail;
}

function options(id, names, values = names.map((_, i) => i)) {
  byId(id).replaceChildren(...names.map((name, i) => element("option", { value: values[i] }, name)));
}

async function main() {
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  setTheme(scheme.matches ? "dark" : "light");
  setUpOverview();
  options("property", index.properties.map((each) => each.name));
  options("source", index.sources);
  options("target", index.targets);
  options("scope", ["this property", "all properties: the worst"], ["one", "all"]);
  const again = () => redraw().catch(fail);
  scheme.addEventListener("change", () => { setTheme(scheme.matches ? "dark" : "light"); again(); });
  byId("theme").addEventListener("click", () => { setTheme(dark() ? "light" : "dark"); again(); });
  byId("property").addEventListener("change", (event) => choose(Number(event.target.value)).catch(fail));
  byId("statistic").addEventListener("change", (event) => {
    state.statistic = event.target.value;
    drawMaps().catch(fail);
  });
  byId("comparison").addEventListener("change", () => drawMaps().catch(fail));
  for (const id of ["source", "target"]) {
    byId(id).addEventListener("change", () => open(
      Number(byId("source").value) * nTargets + Number(byId("target").value)).catch(fail));
  }
  const least = [1, index.enough, 100, 1000];
  options("least", least.map(String), least);
  const any = index.worst.n.some((n) => n >= index.enough);
  byId("least").value = String(any ? index.enough : 1);
  for (const id of ["scope", "least"]) {
    byId(id).addEventListener("change", () => { state.shown = 25; drawWorst().catch(fail); });
  }
  byId("search").addEventListener("input", showFound);
  byId("search").addEventListener("keydown", (event) => {
    const [first] = event.key === "Enter" ? showFound() : [];
    if (first !== undefined) open(first).catch(fail);
  });
  byId("keep").addEventListener("click", () => {
    state.kept = state.kept === null ? state.pathway : null;
    open(state.pathway).catch(fail);
  });
  byId("link").addEventListener("click", () => copy(byId("link"), location.href));
  document.querySelectorAll("[data-copies]").forEach((button) =>
    button.addEventListener("click", () => copy(button, byId(button.dataset.copies).textContent)));
  addEventListener("hashchange", () => show(asked()).catch(fail));
  byId("more").addEventListener("click", () => { state.shown += 100; drawWorst().catch(fail); });
  if (!index.properties.length || !index.sources.length || !nTargets) {
    byId("maps").replaceChildren("There are no pathways.");
    document.documentElement.dataset.ready = "empty";
    return;
  }
  await show(asked());
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

main().catch(fail);
