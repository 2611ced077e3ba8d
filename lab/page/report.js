"use strict";
// Draws the figures of a report from the numbers in #data:
//   arms[]: name, length (tokens), sink (token), layers,
//     training: {step[], loss[], lr[], grad_norm[], tokens_per_second[]}
//     layer:  {steps[], series: {key: [step][layer]}}
//     head:   {steps[], series: {key: [step][layer][head]}}
//     token:  {steps[], tokens[], series: {key: [step][layer][token]}}
//     maps[]: {step, layer, head, start[] (first token of a group), length, labels[], weights[][]}
// A null is a number that is NaN or infinite: a gap.

const data = JSON.parse(document.getElementById("data").textContent);
const arms = data.arms.map((arm, index) => ({ ...arm, index, shown: true }));
const layerCount = Math.max(...arms.map((arm) => arm.layers));
const allSteps = [...new Set(arms.flatMap((arm) => arm.layer.steps))].sort((a, b) => a - b);
const state = {
  layer: layerCount > 1 ? "median" : 0,  // a layer's number, "median" or "each"
  step: allSteps[allSteps.length - 1],
  axis: "log",
  choice: {},  // what each figure's selector shows
};
const symbols = ["circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon"];

// ---- reading the data ----

const finite = (value) => typeof value === "number";

function median(values) {
  if (!values.length || !values.every(finite)) return null;
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Values of a key by [step][layer]; "x.ratio" is x.sink / x.others. Null when the arm has none. */
function layerSeries(arm, key) {
  if (!key.endsWith(".ratio")) return arm.layer.series[key] ?? null;
  const base = key.slice(0, -6);
  const sink = arm.layer.series[base + ".sink"], others = arm.layer.series[base + ".others"];
  if (!sink) return null;
  return sink.map((row, i) =>
    row.map((value, l) => (finite(value) && others[i][l] ? value / others[i][l] : null)));
}

/** The last index whose step is at most the wanted one (0 if none). */
function indexOfStep(steps, wanted) {
  let index = 0;
  steps.forEach((step, i) => { if (step <= wanted) index = i; });
  return index;
}

/** One value for the chosen layer: its own, or the median over layers. */
const overLayers = (row) => (finite(state.layer) ? row[state.layer] ?? null : median(row));

const layerName = () => (layerCount === 1 ? "" :
  finite(state.layer) ? `layer ${state.layer}` : "median over layers");

// ---- style ----

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const armColour = (arm) => css(`--arm${arm.index % 8}`);
const shownArms = () => arms.filter((arm) => arm.shown);

function withOpacity(colour, opacity) {
  const channel = (at) => parseInt(colour.slice(at, at + 2), 16);
  return `rgba(${channel(1)},${channel(3)},${channel(5)},${opacity})`;
}

function layout(extra) {
  const grid = { gridcolor: css("--grid"), zeroline: false, linecolor: css("--line"), automargin: true,
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

const plotOptions = { responsive: true, displaylogo: false,
  modeBarButtons: [["toImage", "resetScale2d"]] };

/** Draws into a plot's place. Plotly works on in the background; what it does to a place that has
 * left the page meanwhile does not matter, errors included. */
function render(plot, traces, extra) {
  const drawn = Plotly.react(plot, traces, layout(extra), plotOptions)
    .catch((error) => { if (plot.isConnected) throw error; });
  plot.pending = Promise.allSettled([plot.pending, drawn]);
}

/** Frees a plot that has left the page, once Plotly is through with it. */
const release = (plot) => plot.pending?.then(() => Plotly.purge(plot));

// ---- axes ----

/** Position of a step or token on its axis: log2(n + 1) makes 0 visible. */
const place = (n) => (state.axis === "log" ? Math.log2(n + 1) : n);

/** An axis of steps or tokens; a narrow panel has room for about 8 labels. */
function countAxis(values, title, panel, logarithmic = state.axis === "log") {
  if (!logarithmic) return { title: { text: title } };
  const last = Math.max(...values), ticks = [0];
  for (let n = 1; n <= last; n *= 2) ticks.push(n);
  const top = ticks[ticks.length - 1];
  if (last > 1.6 * top) ticks.push(last);
  else if (last !== top) ticks[ticks.length - 1] = last;
  const every = Math.ceil(ticks.length / (panel.wide > 2 ? 14 : 9));
  const kept = ticks.filter((_, i) => i === 0 || (ticks.length - 1 - i) % every === 0);
  return { title: { text: title }, tickangle: 0, tickvals: kept.map((n) => Math.log2(n + 1)),
    ticktext: kept.map((n) => (n >= 10000 ? `${+(n / 1000).toPrecision(3)}k` : `${n}`)) };
}

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

// ---- traces ----

const dashOf = { solid: "solid", dotted: "dot", dashed: "dash" };

function trace(arm, line, x, y, shown, extra = {}) {
  const colour = armColour(arm);
  const single = x.length < 2;
  // Earlier arms are drawn wider, so that a later one on top of them does not hide them.
  const weight = arms.length > 1 ? 1 - arm.index / (arms.length - 1) : 0;
  return {
    type: "scatter", mode: single || (line.markers ?? true) ? "lines+markers" : "lines", x, y,
    customdata: y, text: shown, name: arm.name,
    line: { color: colour, width: (line.style === "dotted" ? 1.6 : 2) + 1.3 * weight, dash: dashOf[line.style ?? "solid"] },
    marker: { color: line.style === "dotted" ? css("--card") : colour, size: (x.length > 30 ? 3 : 5) + 2.5 * weight,
      symbol: symbols[arm.index % 8], line: { color: colour, width: 1.4 } },
    hovertemplate: `<b>${escapeHtml(arm.name)}</b>${line.label ? ", " + line.label : ""}<br>` +
      "%{text}: %{customdata:.4~g}<extra></extra>",
    ...extra,
  };
}

const escapeHtml = (text) =>
  text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

function reference(x0, x1, value, label) {
  return { type: "scatter", mode: "lines", x: [x0, x1], y: [value, value], customdata: [value, value],
    text: [label, label], line: { color: css("--soft"), width: 1.5, dash: "dot" },
    hovertemplate: "%{text}: %{customdata:.4~g}<extra></extra>" };
}

/** Lines over steps: the chosen layer or the median, with single layers thin behind it. */
function stepTraces(panel) {
  const traces = [];
  for (const arm of shownArms()) {
    const x = arm.layer.steps.map(place);
    for (const line of panel.lines) {
      const rows = layerSeries(arm, line.key);
      if (!rows) continue;
      const shown = (name) => arm.layer.steps.map((step) => `step ${step}${name && ", " + name}`);
      if (state.layer === "each" || (state.layer === "median" && line.faint && arm.layers > 1)) {
        for (let l = 0; l < arm.layers; ++l) {
          const depth = arm.layers > 1 ? l / (arm.layers - 1) : 1;
          const opacity = state.layer === "each" ? 0.25 + 0.75 * depth : 0.22;
          traces.push(trace(arm, line, x, rows.map((row) => row[l]), shown(`layer ${l}`),
            { mode: "lines", line: { color: withOpacity(armColour(arm), opacity), width: 1.1,
              dash: dashOf[line.style ?? "solid"] } }));
        }
      }
      if (state.layer !== "each") {
        const y = rows.map(overLayers);
        traces.push(trace(arm, line, x, y, shown(layerName())));
        if (line.median) traces.push(medianTrace(arm, line, x, y));
      }
    }
  }
  return traces;
}

function medianTrace(arm, line, x, y) {
  const value = median(y.filter(finite));
  return trace(arm, { label: `median over ${y.filter(finite).length} measured steps` },
    [x[0], x[x.length - 1]], [value, value], ["all steps", "all steps"],
    { mode: "lines", opacity: 0.7, line: { color: armColour(arm), width: 1.3, dash: "dash" } });
}

/** Values of every layer at the chosen step. */
function layerTraces(panel) {
  const traces = [];
  const armsNow = shownArms();
  armsNow.forEach((arm, position) => {
    const index = indexOfStep(arm.layer.steps, state.step);
    for (const line of panel.lines) {
      const rows = layerSeries(arm, line.key);
      if (!rows) continue;
      const y = rows[index];
      const shift = layerCount === 1 ? (position + 1) / (armsNow.length + 1) - 0.5 : 0;
      traces.push(trace(arm, line, y.map((_, l) => l + shift), y,
        y.map((_, l) => `step ${arm.layer.steps[index]}, layer ${l}`),
        { ...(layerCount === 1 && { mode: "markers", marker: {
          color: line.style === "dotted" ? css("--card") : armColour(arm), size: 11,
          symbol: symbols[arm.index % 8], line: { color: armColour(arm), width: 2 } } }) }));
    }
  });
  return traces;
}

/** Values of every token at the chosen step, of the chosen layer or the median over layers. */
function tokenTraces(panel) {
  const traces = [];
  for (const arm of shownArms()) {
    const index = indexOfStep(arm.token.steps, state.step);
    const x = arm.token.tokens.map((t) => Math.log2(t + 1));
    for (const line of panel.lines) {
      const rows = arm.token.series[line.key]?.[index];
      if (!rows) continue;
      const y = x.map((_, t) => overLayers(rows.map((row) => row[t])));
      traces.push(trace(arm, line, x, y,
        arm.token.tokens.map((t) => `step ${arm.token.steps[index]}, token ${t}`),
        { mode: "lines+markers" }));
    }
  }
  return traces;
}

function trainingTraces(panel) {
  return shownArms().map((arm) => trace(arm, { markers: false }, arm.training.step.map(place),
    arm.training[panel.lines[0].key], arm.training.step.map((step) => `step ${step}`),
    { line: { color: armColour(arm), width: arms.length > 1 && arm.index === 0 ? 2.6 : 1.5 } }));
}

// ---- panels: what each kind draws ----

const kinds = {
  training: {
    about: () => "each training step",
    traces: trainingTraces,
    axis: (panel) => countAxis(arms.flatMap((arm) => arm.training.step), "training step", panel),
  },
  steps: {
    about: () => ["over training", state.layer === "each" ? "each layer, deeper is stronger"
      : layerName()].filter(Boolean).join(", "),
    traces: stepTraces,
    axis: (panel) => countAxis(allSteps, "training step", panel),
    span: () => [place(allSteps[0]), place(allSteps[allSteps.length - 1])],
  },
  layers: {
    about: () => (layerCount === 1 ? `at step ${state.step}` : `by layer, at step ${state.step}`),
    traces: layerTraces,
    axis: () => (layerCount === 1
      ? { tickvals: [0], ticktext: ["layer 0"], range: [-0.6, 0.6] }
      : { title: { text: "layer" }, dtick: Math.ceil(layerCount / 12), range: [-0.4, layerCount - 0.6] }),
    span: () => [-0.6, layerCount - 0.4],
  },
  tokens: {
    about: () => {
      const steps = arms[0].token.steps, step = steps[indexOfStep(steps, state.step)];
      return [`by token, at step ${step}`, layerName()].filter(Boolean).join(", ");
    },
    traces: tokenTraces,
    axis: (panel) => countAxis(arms.flatMap((arm) => arm.token.tokens), "token position", panel, true),
  },
};

/** What a panel's y axis has to span: what is drawn, and what the step slider can bring in. */
function rangeValues(panel) {
  const all = (series) => (series ?? []).flat(Infinity);
  if (panel.kind === "layers")
    return shownArms().flatMap((arm) => panel.lines.flatMap((line) => all(layerSeries(arm, line.key))));
  if (panel.kind === "tokens")
    return shownArms().flatMap((arm) => panel.lines.flatMap((line) =>
      all(finite(state.layer) ? arm.token.series[line.key]?.map((rows) => rows[state.layer] ?? [])
        : arm.token.series[line.key])));
  return kinds[panel.kind].traces(panel).flatMap((trace) => trace.y);
}

/** Draws one panel; panels of a group have one y axis. */
function drawPanel(panel) {
  const kind = kinds[panel.kind];
  const traces = kind.traces(panel);
  panel.heading.textContent = panel.title;
  panel.about.textContent = [kind.about(), ...(panel.styles ?? [])].join(" · ");
  const references = (panel.nulls ?? []).flatMap((key) => {
    const row = arms[0].layer.series[key]?.[0];
    return row ? [reference(...kind.span(), overLayers(row), "uniform causal attention")] : [];
  });
  const all = [...references, ...traces];
  const values = [...references.flatMap((trace) => trace.y),
    ...(panel.group ?? [panel]).flatMap(rangeValues)];
  const yaxis = panel.log ? logAxis(all, values, panel.unit ?? "")
    : linearAxis(values, panel.unit ?? "", panel.fromZero);
  render(panel.plot, all, { xaxis: kind.axis(panel), yaxis });
}

// ---- the attention map ----

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
  return end - first > 1 ? `tokens ${first}-${end - 1}` : `token ${first} (${map.labels[group]})`;
}

function drawMap(panel) {
  const { arm, map } = panel;
  const wideStart = state.choice.map === 0, logarithmic = state.choice.map === 2;
  const size = map.start.length, floor = 1e-4;
  const z = map.weights.map((row) => Array.from({ length: size }, (_, k) => {
    if (k >= row.length || !finite(row[k])) return null;
    return logarithmic ? Math.log10(Math.max(row[k], floor)) : row[k];
  }));
  const text = map.weights.map((row, q) => Array.from({ length: size }, (_, k) => k < row.length
    ? `query ${escapeHtml(mapLabel(map, q))}<br>key ${escapeHtml(mapLabel(map, k))}<br>weight ${
      row[k] === null ? "not a number" : +row[k].toPrecision(3)}` : ""));
  panel.heading.replaceChildren(swatch(arm), arm.name);
  panel.about.textContent = `layer ${map.layer}, head ${map.head}, step ${map.step}`;
  const scale = logarithmic
    ? { zmin: -4, zmax: 0, colorbar: { tickvals: [-4, -3, -2, -1, 0],
      ticktext: ["≤0.0001", "0.001", "0.01", "0.1", "1"] } }
    : { zmin: 0, zmax: Math.max(...map.weights.slice(8).flat().filter(finite), 0.05) > 0.5 ? 1 : 0.5,
      colorbar: {} };
  const trace = { type: "heatmap", x: mapEdges(map, wideStart), y: mapEdges(map, wideStart), z, text, hoverinfo: "text",
    colorscale: "Cividis", xgap: 0, ygap: 0, ...scale };
  trace.colorbar = { ...scale.colorbar, thickness: 10, outlinewidth: 0, tickfont: { size: 11 },
    title: { text: "weight", font: { size: 11 } } };
  render(panel.plot, [trace], { height: 430,
    xaxis: { ...mapAxis(map, "key token", wideStart), constrain: "domain", showgrid: false },
    yaxis: { ...mapAxis(map, "query token", wideStart), autorange: "reversed", scaleanchor: "x",
      constrain: "domain", showgrid: false } });
}

// ---- score by layer and head ----

function drawHeads(panel) {
  const { arm } = panel;
  const index = indexOfStep(arm.head.steps, state.step);
  const rows = arm.head.series.sink_score[index];
  panel.heading.replaceChildren(swatch(arm), `${arm.name}: sink score by head`);
  panel.about.textContent = `at step ${arm.head.steps[index]}`;
  const text = rows.map((row, l) => row.map((value, h) =>
    `layer ${l}, head ${h}<br>sink score ${value === null ? "not a number" : +value.toPrecision(3)}`));
  render(panel.plot, [{ type: "heatmap", z: rows, text, hoverinfo: "text", zmin: 0, zmax: 1,
    colorscale: "Cividis", xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0 } }],
    { height: Math.max(200, 90 + 16 * rows.length),
      xaxis: { title: { text: "head" }, dtick: 1, showgrid: false },
      yaxis: { title: { text: "layer" }, dtick: rows.length > 8 ? 2 : 1, showgrid: false } });
}

// ---- the figures ----

const sink = arms[0].sink;
const pair = (key) => [{ key: `${key}.sink`, label: `token ${sink}` },
  { key: `${key}.others`, style: "dotted", label: "other tokens" }];
const solidDotted = [`solid: token ${sink}`, "dotted: others"];
const withLargest = (key) => [{ key, label: "mean over heads", faint: true },
  { key: `${key}_max`, style: "dashed", label: "largest head" }];
const heads = arms[0].head.series.sink_score[0][0].length;
const sinkLines = (key) => (heads > 1 ? withLargest(key) : [{ key, faint: true }]);
const sinkStyles = heads > 1 ? ["solid: mean over heads", "dashed: largest head"] : [];

/** A panel over steps (wide) and the same by layer (narrow). */
const stepsAndLayers = (panel) => {
  const panels = [{ ...panel, kind: "steps", wide: 4 }, { ...panel, kind: "layers", wide: 2 }];
  return layerCount === 1 ? panels.map((one) => Object.assign(one, { group: panels })) : panels;
};

const pathPanels = (kind) => ["q", "k", "v"].map((path) => ({
  kind, wide: 2, log: true, title: { q: "Query path", k: "Key path", v: "Value path" }[path],
  unit: "gradient norm",
  styles: kind === "tokens" ? (path === "v" ? ["dashed: after V-scale"] : []) : solidDotted,
  lines: kind === "tokens"
    ? [{ key: `grad.${path}` }, ...(path === "v" ? [{ key: "grad.v_scaled", style: "dashed", label: "after V-scale" }] : [])]
    : pair(`grad.${path}`),
})).map((panel, _, group) => Object.assign(panel, { group }));

const normPanels = (kind) => ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"].map((key) => ({
  kind, wide: 2, log: true, title: key, unit: "norm", lines: pair(`norm.${key}`), styles: solidDotted }));

const branchPanels = (kind, branch) => ["bloat", "compress", "change"].map((name) => ({
  kind, wide: 2, log: true, title: `${name}, ${branch === "attn" ? "attention" : "MLP"} branch`,
  unit: "ratio", lines: pair(`${name}_${branch}`), styles: solidDotted }));

const both = ["over training", "by layer"];
const figures = [
  { id: "loss", choices: ["loss", "gradient norm", "learning rate", "tokens per second"],
    panels: (choice) => {
      const key = ["loss", "grad_norm", "lr", "tokens_per_second"][choice];
      return [{ kind: "training", wide: 6, title: ["Training loss", "Global gradient norm",
        "Learning rate", "Speed"][choice], unit: ["nats", "norm", "rate", "tokens/s"][choice],
      log: choice === 1, fromZero: choice > 1, lines: [{ key }] }];
    } },
  { id: "sink", panels: () => [
    ...stepsAndLayers({ title: "Sink score", unit: "score", fromZero: true, lines: sinkLines("sink_score"),
      nulls: ["sink_score_null"], styles: [...sinkStyles, "grey: uniform attention"] }),
    ...stepsAndLayers({ title: "Sink mass", unit: "mass", log: true, lines: sinkLines("sink_mass"),
      nulls: ["sink_mass_null"], styles: [...sinkStyles, "grey: uniform attention"] }),
    ...stepsAndLayers({ title: "Entropy of attention", unit: "nats", fromZero: true,
      lines: [{ key: "attention_entropy", faint: true }] }),
    ...(layerCount * heads > 1 ? arms.map((arm) => ({ draw: drawHeads, arm, wide: 3 })) : []) ] },
  { id: "gradient", panels: () => [
    ...stepsAndLayers({ title: "Gradient-sink ratio", unit: "R_GS", log: true,
      lines: [{ key: "gradient_sink_ratio", faint: true, median: true }] })
      .map((panel) => ({ ...panel, styles: panel.kind === "steps" ? ["dashed: median over measured steps"] : [] })),
    { kind: "tokens", wide: 6, log: true, title: "Gradient at the attention input",
      unit: "gradient norm", lines: [{ key: "grad.attn_in" }] }] },
  { id: "norms", choices: both, panels: (choice) => [
    ...normPanels(choice === 0 ? "steps" : "layers"),
    { kind: choice === 0 ? "steps" : "layers", wide: 2, log: true, title: "resid_post, ratio",
      unit: `token ${sink} / others`, lines: [{ key: "norm.resid_post.ratio", faint: true }] }] },
  { id: "values", panels: () => [
    ...stepsAndLayers({ title: `Value norm, token ${sink} over others`, unit: "ratio", log: true,
      lines: [{ key: "norm.value.ratio", faint: true, label: "value" },
        { key: "norm.value_scaled.ratio", style: "dashed", label: "after V-scale" }],
      styles: ["solid: value", "dashed: after V-scale"] }),
    { kind: "tokens", wide: 6, log: true, title: "Value norm", unit: "norm",
      lines: [{ key: "norm.value" }, { key: "norm.value_scaled", style: "dashed", label: "after V-scale" }],
      styles: ["solid: value", "dashed: after V-scale"] }] },
  { id: "paths", panels: () => [...pathPanels("tokens"), ...pathPanels("steps"),
    ...pathPanels("layers")] },
  { id: "map", choices: ["first tokens enlarged", "all tokens equally wide",
    "all tokens equally wide, logarithmic colours"], panels: () => arms.flatMap((arm) =>
    arm.maps.map((map) => ({ draw: drawMap, arm, map, wide: 3 }))) },
  { id: "branches", choices: ["attention branch", "MLP branch"], panels: (choice) => [
    ...branchPanels("steps", choice ? "mlp" : "attn"), ...branchPanels("layers", choice ? "mlp" : "attn")] },
  { id: "outliers", panels: () => [
    ...stepsAndLayers({ title: "Size of features", unit: "|x|", log: true, lines: [
      { key: "resid_post_max_abs", label: "largest" },
      { key: "resid_post_median_abs", style: "dotted", label: "median" }],
    styles: ["solid: largest", "dotted: median"] }),
    ...stepsAndLayers({ title: "Excess kurtosis", unit: "kurtosis",
      lines: [{ key: "resid_post_kurtosis", faint: true }] })] },
];

// ---- building and redrawing the page ----

function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

function swatch(arm) {
  return element("span", `swatch arm${arm.index % 8}`);
}

/** The panels of a figure as it is chosen now; empties and refills its place in the page. */
function buildFigure(figure) {
  const place = document.querySelector(`#${figure.id} .panels`);
  const old = [...place.querySelectorAll(".plot")];
  place.replaceChildren();
  old.forEach(release);
  const choice = (state.choice[figure.id] ??= 0);
  figure.built = figure.panels(choice);
  if (!figure.built.length) {
    element("p", "empty", place).textContent = "This run recorded none.";
    return;
  }
  if (figure.choices) buildChoice(figure, choice, place);
  for (const panel of figure.built) {
    const box = element("div", `panel span${panel.wide}`, place);
    panel.box = box;
    panel.heading = element("h4", "", box);
    panel.about = element("div", "key", box);
    panel.plot = element("div", "plot", box);
  }
}

function buildChoice(figure, choice, place) {
  const label = element("label", "choice", place);
  label.append("Show ");
  const select = element("select", "", label);
  figure.choices.forEach((text, i) => select.add(new Option(text, i, false, i === choice)));
  select.addEventListener("change", () => {
    state.choice[figure.id] = Number(select.value);
    buildFigure(figure);
    drawFigure(figure);
    document.querySelector(`#${figure.id} select`).focus();
  });
}

function drawFigure(figure, only = () => true) {
  for (const panel of figure.built) {
    if (!only(panel)) continue;
    if (panel.arm) panel.box.hidden = !panel.arm.shown;
    if (panel.arm && !panel.arm.shown) continue;
    panel.draw ? panel.draw(panel) : drawPanel(panel);
  }
}

const drawAll = (only) => figures.forEach((figure) => drawFigure(figure, only));

function buildControls() {
  const chips = document.getElementById("arm-chips");
  for (const arm of arms) {
    const chip = element("button", "chip", chips);
    chip.append(swatch(arm), arm.name);
    chip.setAttribute("aria-pressed", "true");
    chip.title = "Show or hide this arm";
    chip.addEventListener("click", () => {
      arm.shown = !arm.shown;
      if (!shownArms().length) arm.shown = true;
      chip.setAttribute("aria-pressed", String(arm.shown));
      drawAll();
    });
  }
  const layer = document.getElementById("layer");
  document.getElementById("layer-control").hidden = layerCount === 1;
  layer.add(new Option("median over layers", "median"));
  layer.add(new Option("each layer", "each"));
  for (let l = 0; l < layerCount; ++l) layer.add(new Option(`layer ${l}`, l));
  layer.addEventListener("change", () => {
    state.layer = /^\d+$/.test(layer.value) ? Number(layer.value) : layer.value;
    drawAll();
  });
  const step = document.getElementById("step"), shown = document.getElementById("step-value");
  step.max = allSteps.length - 1;
  step.value = allSteps.length - 1;
  shown.textContent = state.step;
  step.addEventListener("input", () => {
    state.step = allSteps[Number(step.value)];
    shown.textContent = state.step;
    drawAll((panel) => panel.draw === drawHeads || panel.kind === "layers" || panel.kind === "tokens");
  });
  const axis = document.getElementById("axis");
  axis.addEventListener("change", () => {
    state.axis = axis.value;
    drawAll((panel) => panel.kind === "steps" || panel.kind === "training");
  });
  document.getElementById("controls").hidden = false;
}

function start() {
  buildControls();
  figures.forEach(buildFigure);
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
}

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

loadPlotly().then(start).catch((error) => {
  const trouble = document.getElementById("trouble");
  trouble.textContent = `The figures cannot be drawn: ${error.message}.`;
  trouble.hidden = false;
  throw error;
});
