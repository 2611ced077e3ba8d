"use strict";
// What every page of figures needs: numbers, colours, axes, drawing with plotly.js.

// ---- numbers ----

const finite = (value) => typeof value === "number";

function median(values) {
  if (!values.length || !values.every(finite)) return null;
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// ---- style ----

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function withOpacity(colour, opacity) {
  const channel = (at) => parseInt(colour.slice(at, at + 2), 16);
  return `rgba(${channel(1)},${channel(3)},${channel(5)},${opacity})`;
}

function layout(extra) {
  const grid = { gridcolor: css("--grid"), zeroline: false, linecolor: css("--line"), automargin: true, exponentformat: "power",
    tickfont: { size: 11 }, title: { font: { size: 12 }, standoff: 6 } };
  const merged = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, height: 290,
    font: { color: css("--text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    margin: { l: 52, r: 14, t: 22, b: 46 }, hovermode: "closest",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--line"), activecolor: css("--soft") },
    hoverlabel: { font: { size: 12 }, namelength: -1 },
    ...extra,
  };
  merged.xaxis = { ...grid, ...extra.xaxis };
  merged.yaxis = { ...grid, ...extra.yaxis };
  return merged;
}

const plotOptions = () => ({ responsive: true, displaylogo: false, modeBarButtons: [[
  { name: "save", title: "Save as PNG", icon: Plotly.Icons.camera, click: savePicture }, "resetScale2d"]] });

/** Draws into a plot's place. Plotly works on in the background; what it does to a place that has
 * left the page meanwhile does not matter, errors included. */
function render(plot, traces, extra) {
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", inWords(plot, traces));
  const drawn = Plotly.react(plot, traces, layout({ ...extra, ...sheetSize(plot) }), plotOptions())
    .then(() => leaveOutOfTabOrder(plot)).catch((error) => { if (plot.isConnected) throw error; });
  plot.pending = Promise.allSettled([plot.pending, drawn]);
}

/** The buttons over a figure are for a pointer; the keyboard has those of #controls. */
function leaveOutOfTabOrder(plot) {
  for (const button of plot.querySelectorAll(".modebar-btn")) button.tabIndex = -1;
}

/** Frees a plot that has left the page, once Plotly is through with it. */
const release = (plot) => plot.pending?.then(() => Plotly.purge(plot));

// ---- axes ----

/** Ticks of a logarithmic axis: decades, or 1-2-5 steps when it spans few of them. */
function logTicks(bottom, top) {
  const low = Math.floor(Math.log10(bottom)), high = Math.ceil(Math.log10(top));
  const decades = Math.log10(top / bottom), every = Math.ceil(decades / 6);
  const steps = decades > 2.5 ? [1] : decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const ticks = [];
  for (let power = low; power <= high; power += every)
    for (const step of steps) ticks.push(step * 10 ** power);
  return ticks;
}

const tickText = (value) => {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(1).replace(".0e", "e");
  return `${+value.toPrecision(3)}`;
};

/**
 * A logarithmic y axis over `values`; zeros and values eight decades below the largest go to its
 * lower edge, in the traces that are drawn.
 */
function logAxis(traces, values, title) {
  const positive = values.filter((y) => finite(y) && y > 0);
  if (!positive.length) return { title: { text: title } };
  const top = positive.reduce((a, b) => Math.max(a, b));
  const low = Math.max(positive.reduce((a, b) => Math.min(a, b)), top * 1e-8);
  const bottom = low / Math.max(1.25, (top / low) ** 0.06);
  for (const trace of traces) {
    trace.customdata = trace.y;
    trace.y = trace.y.map((y) => (finite(y) ? Math.max(y, bottom) : null));
  }
  const decades = Math.log10(top / bottom), ticks = logTicks(bottom, top);
  return { type: "log", title: { text: title }, tickvals: ticks, ticktext: ticks.map(tickText),
    range: [Math.log10(bottom) - 0.03 * decades, Math.log10(top) + 0.08 * decades] };
}

function linearAxis(values, title, fromZero) {
  const numbers = values.filter(finite);
  if (!numbers.length) return { title: { text: title } };
  const top = numbers.reduce((a, b) => Math.max(a, b));
  const low = numbers.reduce((a, b) => Math.min(a, b), fromZero ? 0 : Infinity);
  const room = 0.06 * (top - low || Math.abs(top) || 1);
  return { title: { text: title }, range: [low - (low === 0 && fromZero ? 0 : room), top + room] };
}

// ---- traces, texts, elements ----

const dashOf = { solid: "solid", dotted: "dot", dashed: "dash" };

const escapeHtml = (text) =>
  text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);


function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

// ---- figures in words ----

/** The heading of a plot's panel, and the line under it. */
function captionOf(plot) {
  const text = (part) => plot.closest(".panel")?.querySelector(part)?.textContent.trim() ?? "";
  return { title: text("h4"), about: text(".about") };
}

const inLegend = (trace) => Boolean(trace.name) && trace.showlegend !== false;

/** "baseline: 0.07 at step 0, 0.69 at step 500, most 0.71 at step 400", from the numbers drawn. */
function traceInWords(trace) {
  const numberText = (value) => `${+value.toPrecision(3)}`;
  const plain = (text) => text.replaceAll("<br>", ", ").replace(/<[^>]*>/g, "").replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  if (trace.type === "heatmap") {
    const cells = trace.z.flatMap((row, i) => row.map((value, j) => ({ value, text: trace.text[i][j] })))
      .filter((cell) => finite(cell.value)).sort((a, b) => a.value - b.value);
    return cells.length ? `smallest: ${plain(cells[0].text)}; largest: ${plain(cells[cells.length - 1].text)}`
      : "no number";
  }
  const values = trace.orientation === "h" ? trace.x : trace.customdata ?? trace.y;
  const points = values.map((value, i) => ({ value, at: plain(trace.text?.[i] ?? "") }))
    .filter((point) => finite(point.value));
  const name = trace.name ? `${trace.name}: ` : "";
  if (!points.length) return `${name}no number`;
  const first = points[0], last = points[points.length - 1];
  const least = points.reduce((a, b) => (b.value < a.value ? b : a)), most = points.reduce((a, b) => (b.value > a.value ? b : a));
  const said = (what, { value, at }) => `${what}${numberText(value)}${at && ` at ${at}`}`;
  if (least.value === most.value) return name + numberText(first.value);
  if (trace.mode === "markers" || trace.type === "bar")
    return `${name}${points.length} values, ${said("least ", least)}, ${said("most ", most)}`;
  const parts = [said("", first), said("", last)];
  if (most !== first && most !== last) parts.push(said("most ", most));
  if (least !== first && least !== last) parts.push(said("least ", least));
  return name + parts.join(", ");
}

/** What a figure shows, for those who do not see it. */
function inWords(plot, traces) {
  const { title, about } = captionOf(plot), most = 12;
  const curves = traces.filter((trace) => trace.showlegend !== false);
  const said = curves.slice(0, most).map(traceInWords);
  if (curves.length > most) said.push(`and ${curves.length - most} more curves`);
  return `${[title, about].filter(Boolean).join(", ")}. ${said.join(". ")}.`;
}

// ---- figures saved alone ----

/** A figure with what stands around it in the page: heading, legend, background. */
function picture(plot) {
  const { title, about } = captionOf(plot);
  const subtitle = [document.querySelector("h1").textContent, about].filter(Boolean).join(" \u00b7 ");
  const width = 1000, height = Math.max(600, (plot.layout.height ?? 0) + 150);
  return { data: plot.data, layout: { ...plot.layout, width, height, showlegend: plot.data.some(inLegend),
    title: { text: `<b>${escapeHtml(title)}</b><br><span style="font-size:12px">${escapeHtml(subtitle)}</span>`,
      x: 0.03, xanchor: "left", font: { size: 17 } },
    legend: { orientation: "h", x: 0, y: -0.14, yanchor: "top", font: { size: 12 } },
    margin: { l: 70, r: 30, t: 80, b: 120 }, paper_bgcolor: css("--page"), plot_bgcolor: css("--page") } };
}

async function savePicture(plot) {
  const { data, layout: { width, height, ...rest } } = picture(plot);
  const link = document.createElement("a");
  link.href = await Plotly.toImage({ data, layout: { ...rest, width, height } }, { format: "png", width, height, scale: 2 });
  link.download = `${captionOf(plot).title.replace(/[^A-Za-z0-9]+/g, "-").toLowerCase() || "figure"}.png`;
  link.click();
}

/** The controls by which the keyboard saves any figure. */
function buildSaving() {
  const choice = document.getElementById("picture");
  const plots = () => [...document.querySelectorAll(".panel:not([hidden]) > .plot")];
  const fill = () => {
    const chosen = choice.selectedIndex;
    choice.replaceChildren(...plots().map((plot, i) => {
      const { title, about } = captionOf(plot);
      return new Option(`${title}${about && ` (${about})`}`, i);
    }));
    choice.selectedIndex = Math.max(0, Math.min(chosen, choice.length - 1));
  };
  fill();
  choice.addEventListener("focus", fill);
  document.getElementById("save").addEventListener("click", () => savePicture(plots()[choice.selectedIndex]));
}

// ---- printing ----

const root = document.documentElement;

/** Plotly keeps a plot's size when it draws again, unless it is told another. */
const sheetSize = (plot) => (root.classList.contains("printing") ? { width: plot.clientWidth } : {});

/**
 * While the page is printed its figures have the width of a sheet and light colours. They also
 * scale, as sheets differ.
 */
function followPrinting(redraw) {
  const drawings = () => document.querySelectorAll(".plot .main-svg");
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    redraw();
    for (const drawing of drawings()) {
      const width = drawing.getAttribute("width"), height = drawing.getAttribute("height");
      drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
      drawing.closest(".plot").style.setProperty("--shape", `${width} / ${height}`);
    }
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    // Made anew, as a plot that had a width of its own does not follow the window again.
    document.querySelectorAll(".panel > .plot").forEach((plot) => Plotly.purge(plot));
    redraw();
  });
}

// ---- attention maps ----

/** Groups of tokens as cell edges: at the middle between tokens, or on a log2(t + 1) axis. */
const mapEdges = (map, logarithmic) => [...map.start, map.length]
  .map((t) => (logarithmic ? Math.log2(t + 1) : t - 0.5));

function mapAxis(map, title, logarithmic) {
  if (!logarithmic) return { title: { text: title } };
  const tokens = [0];
  for (let t = 1; t < map.length; t *= 2) tokens.push(t);
  return { title: { text: title }, tickvals: tokens.map((t) => Math.log2(t + 1) + 0.5 * Math.log2((t + 2) / (t + 1))),
    ticktext: tokens };
}

function mapLabel(map, group) {
  const first = map.start[group], end = map.start[group + 1] ?? map.length;
  return end - first > 1 ? `tokens ${first}-${end - 1} (mean)` : `token ${first} (${map.labels[group]})`;
}

/** What a cell of a map is, where it is more than a weight. */
function mapCells(map) {
  const ends = [...map.start.slice(1), map.length], widths = map.start.map((t, g) => ends[g] - t);
  const widest = Math.max(...widths), single = widths.findIndex((width) => width > 1);
  if (widest === 1) return "";
  return `first ${single} tokens single, then ${widest} × ${widest} tokens a cell; a cell is the mean weight`;
}

const mapChoices = ["first tokens enlarged", "all tokens equally wide",
  "all tokens equally wide, logarithmic colours"];

/** Draws an attention map as the index into mapChoices says. */
function renderMap(plot, map, choice) {
  const wideStart = choice === 0, logarithmic = choice === 2;
  const size = map.start.length, floor = 1e-4;
  const z = map.weights.map((row) => Array.from({ length: size }, (_, k) => {
    if (k >= row.length || !finite(row[k])) return null;
    return logarithmic ? Math.log10(Math.max(row[k], floor)) : row[k];
  }));
  const text = map.weights.map((row, q) => Array.from({ length: size }, (_, k) => k < row.length
    ? `query ${escapeHtml(mapLabel(map, q))}<br>key ${escapeHtml(mapLabel(map, k))}<br>weight ${
      row[k] === null ? "not a number" : +row[k].toPrecision(3)}` : ""));
  const scale = logarithmic
    ? { zmin: -4, zmax: 0, colorbar: { tickvals: [-4, -3, -2, -1, 0],
      ticktext: ["≤0.0001", "0.001", "0.01", "0.1", "1"] } }
    : { zmin: 0, zmax: Math.max(...map.weights.slice(8).flat().filter(finite), 0.05) > 0.5 ? 1 : 0.5,
      colorbar: {} };
  const trace = { type: "heatmap", x: mapEdges(map, wideStart), y: mapEdges(map, wideStart), z, text, hoverinfo: "text",
    colorscale: "Cividis", xgap: 0, ygap: 0, ...scale };
  trace.colorbar = { ...scale.colorbar, thickness: 10, outlinewidth: 0, tickfont: { size: 11 },
    title: { text: "weight", font: { size: 11 } } };
  render(plot, [trace], { height: 430,
    xaxis: { ...mapAxis(map, "key token", wideStart), constrain: "domain", showgrid: false },
    yaxis: { ...mapAxis(map, "query token", wideStart), autorange: "reversed", scaleanchor: "x",
      constrain: "domain", showgrid: false } });
}

// ---- plotly.js ----

// plotly.js is carried gzipped, at a third of its size. Browsers that cannot inflate (before Chrome 80,
// Firefox 113, Safari 16.4) still have the text and the tables, and are told why figures are missing.
async function loadPlotly() {
  if (typeof DecompressionStream === "undefined")
    throw new Error("this browser cannot inflate the figures' library (it lacks DecompressionStream); " +
      "Chrome 80, Firefox 113, Safari 16.4 or newer can");
  const packed = document.getElementById("plotly");
  const bytes = Uint8Array.from(atob(packed.textContent.trim()), (c) => c.charCodeAt(0));
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(inflated).text();
  document.head.append(script);
  packed.remove();
}

/** In each section of figures the panels that `figures[id]()` names, [{draw, title, wide}]: each gets
    a heading, `about` for a line of text, and `plot`. Returns all of them. */
function buildPanels(figures) {
  const panels = [];
  for (const section of document.querySelectorAll("section.figure"))
    for (const panel of figures[section.id]()) {
      const box = element("div", `panel span${panel.wide}`, section.querySelector(".panels"));
      element("h4", "", box).textContent = panel.title;
      panel.about = element("span", "about", element("div", "key", box));
      panel.plot = element("div", "plot", box);
      panels.push(panel);
    }
  return panels;
}

/** Draws the page with `start` once plotly.js is there, or says in the page why it cannot. */
function begin(start) {
  loadPlotly().then(start).catch((error) => {
    const trouble = document.getElementById("trouble");
    trouble.textContent = `The figures cannot be drawn: ${error.message}.`;
    trouble.hidden = false;
    throw error;
  });
}
