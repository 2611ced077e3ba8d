// Draws the figures of a dial from the record weir.dial/1 in #data, whose numbers that are not finite
// are null: settings, loss, layers: [{layer, frozen, recomputed}], both as [setting] or [setting][head].

const data = JSON.parse(document.getElementById("data").textContent);
const { settings, layers } = data, dial = settings.dial;
const upstreams = ["frozen", "recomputed"].filter((name) => layers[0][name]);
const state = { layer: 0, head: -1 };

const mean = (values) => (values.every(finite) ? values.reduce((a, b) => a + b, 0) / values.length : null);
/** Of a head, or the mean over heads: a row has a number a head. */
const ofHead = (rows) => rows.map((row) => (state.head < 0 ? mean(row) : row[state.head]));
const headName = () => (state.head < 0 ? "mean over heads" : `head ${settings.heads[state.head]}`);
const layerName = () => `layer ${layers[state.layer].layer}`;
const valueTexts = settings.values.map((value) => (finite(value) ? tickText(value) : value));
const what = { mass: settings.form === "multiply" ? "factor" : "logit", norm: "factor", value: "factor",
  position: "token", mask: "blocked" }[dial];
const settingTexts = valueTexts.map((text) => `${what} ${text}`);
const sweepOf = (upstream) => layers[state.layer][upstream];

// ---- axes and traces ----

function logScale(values, title) {
  const positive = values.filter((x) => finite(x) && x > 0);
  if (!positive.length) return { title: { text: title } };
  const low = Math.min(...positive), top = Math.max(...positive), room = Math.max(0.05, 0.04 * Math.log10(top / low));
  const ticks = logTicks(low, top);
  return { type: "log", title: { text: title }, tickvals: ticks, ticktext: ticks.map(tickText),
    range: [Math.log10(low) - room, Math.log10(top) + room] };
}

const positiveOnly = (values) => values.map((value) => (finite(value) && value > 0 ? value : null));

function line(name, x, y, text, colour, style = {}) {
  return { type: "scatter", mode: style.mode ?? "lines+markers", name, x, y, customdata: y, text,
    line: { color: css(colour), width: style.width ?? 2, dash: style.dash ?? "solid" },
    marker: { color: css(colour), size: 6, symbol: style.symbol ?? "circle" }, connectgaps: false,
    hovertemplate: `<b>${escapeHtml(name)}</b><br>%{text}<br>%{x:.4~g}, %{customdata:.4~g}<extra></extra>` };
}

const legendBelow = { showlegend: true, height: 380, margin: { l: 58, r: 14, t: 14, b: 96 },
  legend: { orientation: "h", y: -0.24, font: { size: 11 } } };

// ---- fits ----

const fitName = dial === "norm" ? "slope" : "exponent", expected = dial === "norm" ? -1 : 2;

/** One place a layer, or of one layer a place a head: the fit with its interval; heads as points. */
function drawFits(panel) {
  const byHead = layers.length === 1 && layers[0][panel.upstream].head_fits;
  const fits = byHead ? layers[0][panel.upstream].head_fits : layers.map((layer) => layer[panel.upstream].fit);
  const x = byHead ? settings.heads : layers.map((layer) => layer.layer), unit = byHead ? "head" : "layer";
  const y = fits.map((fit) => fit.exponent);
  const place = x.map((number) => `${unit} ${number}`);
  const middle = { ...line(`${unit} with its interval`, x, y, place, "--arm0", { mode: "markers" }),
    error_y: { type: "data", symmetric: false, color: css("--arm0"), thickness: 1.5, width: 3,
      array: fits.map((fit) => (finite(fit.high) && finite(fit.exponent) ? fit.high - fit.exponent : 0)),
      arrayminus: fits.map((fit) => (finite(fit.low) && finite(fit.exponent) ? fit.exponent - fit.low : 0)) } };
  const traces = [];
  const values = fits.flatMap((fit) => [fit.low, fit.high, fit.exponent]);
  if (!byHead && layers[0][panel.upstream].head_fits) {
    const points = layers.flatMap((layer) => layer[panel.upstream].head_fits.map((fit, h) =>
      ({ x: layer.layer, y: fit.exponent, text: `layer ${layer.layer}, head ${settings.heads[h]}` })));
    values.push(...points.map((point) => point.y));
    traces.push(line("heads", points.map((p) => p.x), points.map((p) => p.y), points.map((p) => p.text), "--arm1",
      { mode: "markers", symbol: "line-ew-open" }));
  }
  traces.push(middle);
  const ends = [Math.min(...x) - 0.5, Math.max(...x) + 0.5];
  traces.push(line(`${expected}`, ends, [expected, expected], ["", ""], "--soft", { mode: "lines", width: 1.5, dash: "dot" }));
  panel.about.textContent = `g ${panel.upstream} · ${Math.round(1e4 * settings.confidence) / 100} % intervals`;
  render(panel.plot, traces, { ...legendBelow, xaxis: { title: { text: unit }, range: ends, dtick: Math.ceil((ends[1] - ends[0]) / 16) },
    yaxis: linearAxis([...values, expected], fitName) });
}

// ---- curves of one layer ----

/** The power law of a fit at the points of a sweep. */
function fitted(fit, x) {
  return x.map((value) => (finite(fit.exponent) && finite(fit.factor_log) && value > 0
    ? Math.exp(fit.factor_log) * value ** fit.exponent : null));
}

function drawEnergy(panel) {
  const sweep = sweepOf(panel.upstream), x = positiveOnly(ofHead(sweep.mass)), fit = state.head < 0 ? sweep.fit : sweep.head_fits?.[state.head];
  const series = [["E, measured", ofHead(sweep.energy), "--arm0", {}],
    ["M² |μ|²", ofHead(sweep.mean_curve), "--arm2", { mode: "lines", dash: "dash" }],
    ["M² |μ|² + σ² S", ofHead(sweep.noise_curve), "--arm1", { mode: "lines", dash: "dot" }]];
  if (fit && finite(fit.exponent))
    series.push([`power law, exponent ${+fit.exponent.toPrecision(3)}`, fitted(fit, x), "--soft", { mode: "lines", width: 1.2 }]);
  const traces = series.map(([name, y, colour, style]) => line(name, x, positiveOnly(y), settingTexts, colour, style));
  panel.about.textContent = `${layerName()} · ${headName()} · g ${panel.upstream}`;
  render(panel.plot, traces, { ...legendBelow, xaxis: logScale(x, "mass M"),
    yaxis: logScale(traces.flatMap((trace) => trace.y), "energy E") });
}

function drawTightness(panel) {
  const sweep = sweepOf(panel.upstream), x = positiveOnly(ofHead(sweep.mass));
  const worst = (rows) => rows.map((row) => (state.head < 0 ? Math.max(...row.filter(finite)) : row[state.head]));
  const traces = [["Σ a |g|", "sum", "--arm0"], ["M max |g|", "mass", "--arm1"], ["√S √Σ|g|²", "moment", "--arm2"]]
    .map(([name, key, colour]) => line(name, x, worst(sweep.tightness[key]), settingTexts, colour));
  panel.about.textContent = `${layerName()} · ${state.head < 0 ? "largest head" : headName()} · g ${panel.upstream}`;
  render(panel.plot, traces, { ...legendBelow, xaxis: logScale(x, "mass M"), yaxis: { title: { text: "|dv| over the bound" }, range: [0, 1.05] } });
}

function drawCompress(panel) {
  const sweep = sweepOf(panel.upstream), x = positiveOnly(sweep.norm);
  const traces = [line("compress", x, positiveOnly(sweep.compress), settingTexts, "--arm0")];
  if (finite(sweep.fit.exponent))
    traces.push(line(`power law, slope ${+sweep.fit.exponent.toPrecision(5)}`, x, fitted(sweep.fit, x), settingTexts, "--soft",
      { mode: "lines", width: 1.2, dash: "dash" }));
  panel.about.textContent = `${layerName()} · g ${panel.upstream}`;
  render(panel.plot, traces, { ...legendBelow, xaxis: logScale(x, "norm of the branch's input"),
    yaxis: logScale(traces.flatMap((trace) => trace.y), "compress") });
}

// ---- losses ----

const lossOf = (layer) => layer.recomputed.loss.map((loss) => (finite(loss) ? loss - data.loss : null));

/** Change of the loss of the chosen layer: against mass, norm, or the setting. */
function drawLoss(panel) {
  const sweep = sweepOf("recomputed"), y = lossOf(layers[state.layer]);
  const by = dial === "mass" ? ["mass M", ofHead(sweep.mass), true] : dial === "norm" ? ["norm of the branch's input", sweep.norm, true]
    : dial === "value" ? ["factor of the value vector", settings.values, false] : ["token offered as sink", settings.values, false];
  const x = by[2] ? positiveOnly(by[1]) : by[1];
  const traces = [line("change of the loss", x, y, settingTexts, "--arm0")];
  panel.about.textContent = layerName();
  render(panel.plot, traces, { xaxis: by[2] ? logScale(x, by[0]) : { title: { text: by[0] } }, yaxis: linearAxis([...y, 0], "nats") });
}

/** A point a layer and set of keys. */
function drawBlocked(panel) {
  const kinds = ["sink", "middle", "last-four", "random"];
  const kindOf = (name) => kinds.find((kind) => name === kind || name.startsWith(`${kind}-`)) ?? "other keys";
  const points = layers.flatMap((layer) => settings.values.map((name, v) => ({ kind: kindOf(name), name, layer: layer.layer,
    x: mean(layer.recomputed.mass[v]), y: lossOf(layer)[v] })));
  const symbols = ["star", "diamond", "square", "circle", "cross"];
  const traces = [...kinds, "other keys"].map((kind, k) => {
    const own = points.filter((point) => point.kind === kind);
    return line(kind, positiveOnly(own.map((p) => p.x)), own.map((p) => p.y), own.map((p) => `layer ${p.layer}, ${p.name}`), `--arm${k}`,
      { mode: "markers", symbol: symbols[k] });
  }).filter((trace) => trace.x.length);
  panel.about.textContent = "a point a layer and set of keys";
  render(panel.plot, traces, { ...legendBelow, height: 430, xaxis: logScale(points.map((p) => p.x), "mass that was blocked"),
    yaxis: linearAxis([...points.map((p) => p.y), 0], "change of the loss, nats") });
}

function drawLossMap(panel) {
  const rows = layers.map(lossOf), most = Math.max(...rows.flat().filter(finite).map(Math.abs), 1e-12);
  const text = rows.map((row, l) => row.map((value, v) =>
    `layer ${layers[l].layer}, ${settingTexts[v]}<br>${value === null ? "not a number" : `${value > 0 ? "+" : ""}${+value.toPrecision(3)} nats`}`));
  panel.about.textContent = "nats more than the unchanged model";
  render(panel.plot, [{ type: "heatmap", z: rows, text, hoverinfo: "text", zmin: -most, zmax: most, colorscale: "RdBu", xgap: 1, ygap: 1,
    colorbar: { thickness: 10, outlinewidth: 0 } }],
  { height: Math.max(260, 110 + 15 * rows.length),
    xaxis: { title: { text: what }, tickvals: valueTexts.map((_, v) => v), ticktext: valueTexts, showgrid: false },
    yaxis: { title: { text: "layer" }, tickvals: layers.map((_, l) => l).filter((l) => l % Math.ceil(layers.length / 15) === 0),
      ticktext: layers.map((layer) => layer.layer).filter((_, l) => l % Math.ceil(layers.length / 15) === 0), showgrid: false } });
}

// ---- the page ----

const each = (draw, title) => upstreams.map((upstream) => ({ draw, title, upstream, wide: 3 }));
const hasFits = upstreams.some((name) => layers[0][name].fit);
const figures = {
  fits: () => (hasFits ? each(drawFits, dial === "norm" ? "Slope of compress" : "Exponent of E") : []),
  curves: () => (dial === "norm" ? each(drawCompress, "Compress against the norm")
    : dial === "mask" ? [] : each(drawEnergy, "Energy of the value gradient")),
  bounds: () => (dial === "norm" || dial === "mask" ? [] : each(drawTightness, "Tightness of the bounds")),
  loss: () => (upstreams.includes("recomputed") ? [
    ...(dial === "mask" ? [{ draw: drawBlocked, title: "Loss against blocked mass", wide: 6 }]
      : [{ draw: drawLoss, title: "Change of the loss", wide: 3 }]),
    { draw: drawLossMap, title: "Change of the loss by layer", wide: dial === "mask" ? 6 : 3 }] : []),
};

function start() {
  const panels = buildPanels(figures);
  const drawAll = () => panels.forEach((panel) => panel.draw(panel));
  const layer = document.getElementById("layer"), head = document.getElementById("head");
  layers.forEach((one, l) => layer.add(new Option(`layer ${one.layer}`, l)));
  head.add(new Option("mean over heads", -1));
  settings.heads.forEach((number, h) => head.add(new Option(`head ${number}`, h)));
  for (const [choice, key] of [[layer, "layer"], [head, "head"]])
    choice.addEventListener("change", () => {
      state[key] = Number(choice.value);
      drawAll();
    });
  document.getElementById("layer-control").hidden = layers.length === 1 || dial === "mask";
  document.getElementById("head-control").hidden = settings.heads.length === 1 || dial === "norm" || dial === "mask";
  document.getElementById("controls").hidden = false;
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

begin(start);
