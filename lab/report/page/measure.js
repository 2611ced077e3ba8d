// Draws the figures of a measurement from the numbers in #data:
//   arm: the measurement as plots of a training report have one arm (report.js), at one step:
//     sink, layers, length, layer/head/token.series, token.tokens[], maps[]
//   scatter: {attn, mlp}: {norm, bloat, compress, change} as [layer][first tokens]
//   others: the tokens that the sink token is compared with, as text
// A null is a number that is NaN or infinite: a gap.

const data = JSON.parse(document.getElementById("data").textContent);
const arm = data.arm, sink = arm.sink, layerCount = arm.layers;
const at = (family, key) => arm[family].series[key]?.[0] ?? null;
const heads = at("head", "sink_score")?.[0].length ?? 0;
const state = { layer: layerCount > 1 ? "median" : 0, choice: {} };

const tokenColour = () => css("--arm0"), otherColour = () => css("--arm1");
const others = `mean of tokens ${data.others}`;

// ---- traces ----

function curve(name, x, y, shown, style = {}) {
  const colour = style.colour ?? tokenColour();
  return { type: "scatter", mode: style.mode ?? "lines+markers", x, y, customdata: y, text: shown, name,
    line: { color: colour, width: style.width ?? 2, dash: style.dash ?? "solid" },
    marker: { color: style.dash === "dot" ? css("--card") : colour, size: x.length > 40 ? 4 : 6,
      line: { color: colour, width: 1.4 } },
    hovertemplate: `<b>${escapeHtml(name)}</b><br>%{text}: %{customdata:.4~g}<extra></extra>` };
}

const layerNames = () => Array.from({ length: layerCount }, (_, l) => `layer ${l}`);
const layerPlaces = () => Array.from({ length: layerCount }, (_, l) => l);

function layerAxis() {
  return { title: { text: "layer" }, dtick: Math.ceil(layerCount / 15), range: [-0.5, layerCount - 0.5] };
}

function tokenAxis() {
  const last = arm.length - 1, tokens = [0];
  for (let t = 1; t <= last; t *= 2) tokens.push(t);
  return { title: { text: "token position" }, tickangle: 0,
    tickvals: tokens.map((t) => Math.log2(t + 1)), ticktext: tokens };
}

/** One value for the chosen layer: its own, or the median over layers. */
const overLayers = (row) => (finite(state.layer) ? row[state.layer] ?? null : median(row));
const layerName = () => (finite(state.layer) ? `layer ${state.layer}` :
  state.layer === "each" ? "each layer, deeper is stronger" : "median over layers");

function nullLine(value, x0, x1) {
  return { type: "scatter", mode: "lines", x: [x0, x1], y: [value, value], customdata: [value, value],
    text: ["uniform causal attention", "uniform causal attention"], name: "uniform causal attention",
    line: { color: css("--soft"), width: 1.5, dash: "dot" },
    hovertemplate: "%{text}: %{customdata:.4~g}<extra></extra>" };
}

// ---- panels: what each kind draws ----

/** Curves over layers: lines are {key, label, dash, colour}. */
function drawLayers(panel) {
  const traces = [];
  if (panel.nulls) traces.push(nullLine(at("layer", panel.nulls)[0], -0.5, layerCount - 0.5));
  for (const line of panel.lines) {
    const y = at("layer", line.key);
    if (y) traces.push(curve(line.label, layerPlaces(), y, layerNames(),
      { dash: line.dash, colour: line.other ? otherColour() : tokenColour() }));
  }
  const values = traces.flatMap((one) => one.y);
  const yaxis = panel.log ? logAxis(traces, values, panel.unit) : linearAxis(values, panel.unit, panel.fromZero);
  render(panel.plot, traces, { xaxis: layerAxis(), yaxis });
}

/** Curves over tokens, of the chosen layer, the median over layers, or each layer. */
function drawTokens(panel) {
  const x = arm.token.tokens.map((t) => Math.log2(t + 1));
  const shown = arm.token.tokens.map((t) => `token ${t}`);
  const traces = [];
  for (const line of panel.lines) {
    const rows = at("token", line.key);
    if (!rows) continue;
    if (state.layer === "each")
      rows.forEach((row, l) => traces.push({ ...curve(`${line.label}, layer ${l}`, x, [...row], shown, { mode: "lines",
        width: 1.1, colour: withOpacity(tokenColour(), 0.2 + 0.8 * l / Math.max(1, layerCount - 1)), dash: line.dash }),
      showlegend: l === 0 || l === layerCount - 1 }));
    else
      traces.push(curve(line.label, x, x.map((_, t) => overLayers(rows.map((row) => row[t]))), shown,
        { dash: line.dash }));
  }
  panel.about.textContent = [layerName(), ...(panel.styles ?? [])].join(" · ");
  const values = traces.flatMap((one) => one.y);
  render(panel.plot, traces, { xaxis: tokenAxis(), yaxis: logAxis(traces, values, panel.unit) });
}

/** A bar for every head of a layer: of the chosen one, or of the layer whose heads sink most. */
function drawHeadBars(panel) {
  const rates = at("layer", "sink_rate"), sinking = rates.some((rate) => rate > 0);
  const decisive = sinking ? rates : at("layer", "sink_score");
  const layer = finite(state.layer) ? state.layer : decisive.indexOf(Math.max(...decisive.filter(finite)));
  const values = at("head", panel.key)[Math.max(0, layer)];
  panel.about.textContent = `layer ${layer}${finite(state.layer) ? ""
    : sinking ? ", where most heads sink" : ", where the mean score is largest"} · dotted: uniform attention`;
  const bars = { type: "bar", x: values.map((_, h) => h), y: values, text: values.map((_, h) => `head ${h}`),
    textposition: "none", marker: { color: tokenColour() },
    hovertemplate: `layer ${layer}, head %{x}: %{y:.4~g}<extra></extra>` };
  const reference = nullLine(at("layer", panel.nulls)[0], -0.5, heads - 0.5);
  render(panel.plot, [bars, reference], {
    xaxis: { title: { text: "head" }, dtick: Math.ceil(heads / 16), range: [-0.5, heads - 0.5] },
    yaxis: linearAxis([...values, reference.y[0]], panel.unit, true) });
}

function drawHeads(panel) {
  const rows = at("head", panel.key);
  const text = rows.map((row, l) => row.map((value, h) =>
    `layer ${l}, head ${h}<br>${panel.unit} ${value === null ? "not a number" : +value.toPrecision(3)}`));
  render(panel.plot, [{ type: "heatmap", z: rows, text, hoverinfo: "text", zmin: 0, ...(panel.top && { zmax: panel.top }),
    colorscale: "Cividis", xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0 } }],
  { height: Math.max(220, 90 + 15 * rows.length),
    xaxis: { title: { text: "head" }, dtick: Math.ceil(heads / 16), showgrid: false },
    yaxis: { title: { text: "layer" }, dtick: rows.length > 8 ? Math.ceil(rows.length / 15) : 1, showgrid: false } });
}

// ---- the scatter of ratios against norms ----

const groups = [[0, 0], [1, 1], [2, 3], [4, 7], [8, 15]];
const groupSymbols = ["star", "diamond", "triangle-up", "square", "circle"];
const groupName = ([first, last]) => (first === last ? `token ${first}` : `tokens ${first}-${last}`);

function drawScatter(panel) {
  const ratio = ["compress", "bloat", "change"][state.choice.branches];
  const part = data.scatter[panel.branch], norms = part.norm, ratios = part[ratio];
  panel.heading.textContent = `${ratio}, ${panel.branch === "attn" ? "attention" : "MLP"} branch`;
  const traces = groups.map(([first, last], g) => {
    const points = [];
    norms.forEach((row, l) => row.forEach((norm, t) => {
      if (t >= first && t <= last && norm > 0 && ratios[l][t] > 0 && (!finite(state.layer) || l === state.layer))
        points.push([Math.log10(norm), Math.log10(ratios[l][t]), `layer ${l}, token ${t}`]);
    }));
    return { type: "scatter", mode: "markers", name: groupName([first, last]), x: points.map((p) => p[0]),
      y: points.map((p) => p[1]), text: points.map((p) => p[2]), marker: { size: g === 0 ? 11 : 7, opacity: 0.75,
        symbol: groupSymbols[g], color: css(`--arm${g}`) },
      hovertemplate: `%{text}<br>log10 norm %{x:.3f}, log10 ${ratio} %{y:.3f}<extra></extra>` };
  });
  panel.about.textContent = `${finite(state.layer) ? `layer ${state.layer}` : "all layers"}, tokens 0-15`;
  render(panel.plot, traces, { height: 430, showlegend: true,
    legend: { orientation: "h", y: -0.18, font: { size: 11 } }, margin: { l: 52, r: 14, t: 14, b: 60 },
    xaxis: { title: { text: "log10 of the norm of the branch's input" } },
    yaxis: { title: { text: `log10 of ${ratio}` } } });
}

function drawMapPanel(panel) {
  const { map } = panel;
  panel.heading.textContent = `Layer ${map.layer}, head ${map.head}`;
  const score = at("head", "sink_score")[map.layer][map.head], mass = at("head", "sink_mass")[map.layer][map.head];
  panel.about.textContent = [`first sequence · over all: sink score ${+(score ?? NaN).toPrecision(3)}, mass ${+(mass ?? NaN).toPrecision(3)}`,
    mapCells(map)].filter(Boolean).join(" · ");
  renderMap(panel.plot, map, state.choice.map);
}

// ---- the figures ----

const pair = (key) => [{ key: `${key}.sink`, label: `token ${sink}` },
  { key: `${key}.others`, label: others, dash: "dot", other: true }];
const pairStyles = [`blue: token ${sink}`, "orange, dotted: others"];
const layersPanel = (panel) => ({ draw: drawLayers, wide: 3, overLayers: true, ...panel });
const tokensPanel = (panel) => ({ draw: drawTokens, wide: 3, byLayer: true, ...panel });
const headLines = (key) => (heads > 1 ? [{ key, label: "mean over heads" },
  { key: `${key}_max`, label: "largest head", dash: "dash" }] : [{ key, label: "the head" }]);

const figures = [
  { id: "sink", panels: () => [
    layersPanel({ title: "Sink rate", unit: "share of heads", fromZero: true, lines: [{ key: "sink_rate", label: "sink rate" }] }),
    layersPanel({ title: "Sink mass", unit: "mass", log: true, nulls: "sink_mass_null", lines: headLines("sink_mass"),
      styles: ["solid: mean over heads", "dashed: largest head", "grey: uniform attention"] }),
    ...(heads > 1 ? [
      { draw: drawHeadBars, key: "sink_score", nulls: "sink_score_null", unit: "score", title: "Sink score of each head", wide: 3, byLayer: true },
      { draw: drawHeadBars, key: "sink_mass", nulls: "sink_mass_null", unit: "mass", title: "Sink mass of each head", wide: 3, byLayer: true }] : []),
    ...(layerCount > 1 ? [
      { draw: drawHeads, key: "sink_score", unit: "sink score", top: 1, title: "Sink score by layer and head", wide: 3 },
      { draw: drawHeads, key: "sink_mass", unit: "sink mass", title: "Sink mass by layer and head", wide: 3 }] : []),
    ...(at("layer", "row_sum") ? [
      layersPanel({ title: "Sum of a row's weights", unit: "sum", fromZero: true, lines: [{ key: "row_sum", label: "mean over heads" }] }),
      ...(layerCount > 1 ? [{ draw: drawHeads, key: "row_sum", unit: "row sum", top: 1,
        title: "Sum of a row's weights by layer and head", wide: 3 }] : [])] : []) ] },
  { id: "gradient", panels: () => [
    layersPanel({ title: "Gradient-sink ratio", unit: "R_GS", log: true, lines: [{ key: "gradient_sink_ratio", label: "R_GS" }] }),
    tokensPanel({ title: "Gradient at the attention input", unit: "gradient norm", lines: [{ key: "grad.attn_in", label: "gradient" }] })] },
  { id: "norms", panels: () => [
    ...["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"].map((key) => layersPanel({ title: key, wide: 2,
      unit: "norm", log: true, lines: pair(`norm.${key}`), styles: pairStyles })),
    layersPanel({ title: "Entropy of attention", wide: 2, unit: "nats", fromZero: true, lines: [{ key: "attention_entropy", label: "entropy" }] }),
    tokensPanel({ title: "Residual stream after the layer", wide: 6, unit: "norm", lines: [{ key: "norm.resid_post", label: "resid_post" }] })] },
  { id: "values", panels: () => [
    layersPanel({ title: "Value norm", unit: "norm", log: true, lines: pair("norm.value"), styles: pairStyles }),
    tokensPanel({ title: "Value norm", unit: "norm", lines: [{ key: "norm.value", label: "value" },
      { key: "norm.value_scaled", label: "after V-scale", dash: "dash" }],
    styles: at("token", "norm.value_scaled") ? ["dashed: after V-scale"] : [] })] },
  { id: "paths", panels: () => ["q", "k", "v"].flatMap((path) => [
    tokensPanel({ title: { q: "Query path", k: "Key path", v: "Value path" }[path], wide: 2, unit: "gradient norm",
      lines: [{ key: `grad.${path}`, label: path }] })]) },
  { id: "branches", choices: ["compress", "bloat", "change"], panels: () => ["attn", "mlp"].map((branch) =>
    ({ draw: drawScatter, branch, wide: 3, byLayer: true, title: "" })) },
  { id: "outliers", panels: () => [
    layersPanel({ title: "Size of features", unit: "|x|", log: true, lines: [{ key: "resid_post_max_abs", label: "largest" },
      { key: "resid_post_median_abs", label: "median", dash: "dot", other: true }], styles: ["blue: largest", "orange, dotted: median"] }),
    layersPanel({ title: "Excess kurtosis", unit: "kurtosis", log: at("layer", "resid_post_kurtosis")?.every((v) => v > 0),
      lines: [{ key: "resid_post_kurtosis", label: "over all elements" },
        { key: "resid_post_token_kurtosis", label: "mean over tokens", dash: "dot", other: true }],
      styles: ["blue: over all elements", "orange, dotted: mean over tokens"] }),
    layersPanel({ title: "Largest peak of a token before the MLP's last projection", unit: "peak / median peak", log: true,
      lines: [{ key: "mlp_token_peak_ratio", label: "largest over median" }] })] },
  { id: "map", choices: mapChoices, panels: () => arm.maps.map((map) => ({ draw: drawMapPanel, map, wide: 3, title: "" })) },
];

// ---- building and redrawing the page ----

/** Curves over the layers of a model with one would be single points: their numbers, as a list. */
function listNumbers(panels, place) {
  const list = element("ul", "numbers", place);
  for (const panel of panels) {
    const values = panel.lines.filter((line) => at("layer", line.key)).map((line) => {
      const value = at("layer", line.key)[0];
      return `${panel.lines.length > 1 ? `${line.label} ` : ""}${finite(value) ? tickText(value) : "not a number"}`;
    });
    if (panel.nulls) values.push(`uniform causal attention ${tickText(at("layer", panel.nulls)[0])}`);
    element("li", "", list).textContent = `${panel.title} (${panel.unit}): ${values.join(", ")}`;
  }
}

/** Whether the record has what a panel shows; a model of one's own may not name what it takes. */
const hasData = (panel) => (panel.lines ? panel.lines.some((line) => at("layer", line.key) || at("token", line.key))
  : panel.key ? at("head", panel.key) : panel.branch ? data.scatter[panel.branch].norm : true);

function buildFigure(figure) {
  const place = document.querySelector(`#${figure.id} .panels`);
  state.choice[figure.id] ??= 0;
  figure.built = figure.panels().filter(hasData);
  if (layerCount === 1) {
    const single = figure.built.filter((panel) => panel.overLayers);
    figure.built = figure.built.filter((panel) => !panel.overLayers);
    if (single.length) listNumbers(single, place);
    if (!figure.built.length && single.length) return;
  }
  if (figure.choices && figure.built.length) {
    const label = element("label", "choice", place), select = element("select", "", label);
    label.prepend("Show ");
    figure.choices.forEach((text, i) => select.add(new Option(text, i)));
    select.addEventListener("change", () => {
      state.choice[figure.id] = Number(select.value);
      figure.built.forEach((panel) => panel.draw(panel));
    });
  }
  for (const panel of figure.built) {
    const box = element("div", `panel span${panel.wide}`, place);
    panel.heading = element("h4", "", box);
    panel.heading.textContent = panel.title;
    panel.about = element("span", "about", element("div", "key", box));
    panel.about.textContent = (panel.styles ?? []).join(" · ");
    panel.plot = element("div", "plot", box);
  }
  if (!figure.built.length) element("p", "empty", place).textContent = "This measurement has none.";
}

function drawAll(only = () => true) {
  for (const figure of figures) figure.built.filter(only).forEach((panel) => panel.draw(panel));
}

function start() {
  const layer = document.getElementById("layer");
  layer.add(new Option("median over layers", "median"));
  layer.add(new Option("each layer", "each"));
  for (let l = 0; l < layerCount; ++l) layer.add(new Option(`layer ${l}`, l));
  layer.addEventListener("change", () => {
    state.layer = /^\d+$/.test(layer.value) ? Number(layer.value) : layer.value;
    drawAll((panel) => panel.byLayer);
  });
  document.getElementById("layer-control").hidden = layerCount === 1;
  document.getElementById("controls").hidden = false;
  figures.forEach(buildFigure);
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
}

begin(start);
