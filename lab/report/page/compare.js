// Draws the figures of a comparison from the numbers in #data:
//   arms[]: names; quantities[]: {key, title, meaning, logarithmic}; onset; confidence
//   points[]: {name, equal_tokens, equal_loss (in words), arms[]: {arm, seeds[],
//     equal_tokens, equal_loss: {quantity: {median, low_quartile, high_quartile, values[]}},
//     difference: null or {seeds[], equal_tokens, equal_loss: {quantity: {median, low, high, values[]}}},
//     curve: {tokens[], quantity: {median[], low_quartile[], high_quartile[]}},
//     onsets: {event: {median_step, seeds[]: {state, step}}}, replicates[]: {seed, steps[], tokens[], values}}}
// A null is a number that there is not: a gap.

const data = JSON.parse(document.getElementById("data").textContent);
const state = { point: 0, at: "equal_tokens", axis: "log" };
const symbols = ["circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon"];
const armIndex = (name) => data.arms.indexOf(name);
const colourOf = (name) => css(`--arm${armIndex(name) % 8}`);
const symbolOf = (name) => symbols[armIndex(name) % 8];
const pointNow = () => data.points[state.point];
const pointName = () => (data.points.length > 1 ? pointNow().name : "");
const isTokens = (quantity) => quantity.key === "tokens";

// ---- axes ----

/** Names of arms as ticks: cut in the middle, since a panel is narrow; the hover text has them whole. */
const shortName = (name) => (name.length > 17 ? `${name.slice(0, 8)}…${name.slice(-8)}` : name);
/** Seeds of one arm lie beside each other, so that equal values do not hide one another. */
const beside = (i, count) => (count < 2 ? 0 : (i / (count - 1) - 0.5) * 0.36);

function armAxis(arms, extra = {}) {
  return { range: [-0.6, arms.length - 0.4], tickvals: arms.map((_, a) => a), ticktext: arms.map((arm) => escapeHtml(shortName(arm.arm))),
    showgrid: false, ...extra };
}

/** A logarithmic axis for positive values that lie far apart, else a linear one. */
function valueAxis(quantity, traces, values, title) {
  const numbers = values.filter(finite), least = Math.min(...numbers), most = Math.max(...numbers);
  return quantity.logarithmic && least > 0 && most > 3 * least ? logAxis(traces, values, title) : linearAxis(values, title);
}

const placeTokens = (tokens) => (state.axis === "log" ? Math.log2(tokens + firstTokens()) : tokens);
/** Tokens of the first step after the start, which keep 0 on a logarithmic axis. */
const firstTokens = () => Math.min(...data.points.flatMap((point) => point.arms.flatMap((arm) =>
  arm.replicates.flatMap((one) => one.tokens.filter((t) => t > 0)))), 1e300);
const tokenText = (tokens) => (tokens >= 1e9 ? `${+(tokens / 1e9).toPrecision(3)}B` : tokens >= 1e6 ? `${+(tokens / 1e6).toPrecision(3)}M`
  : tokens >= 1e3 ? `${+(tokens / 1e3).toPrecision(3)}k` : `${+tokens.toPrecision(3)}`);

function tokenAxis(all) {
  if (state.axis !== "log") return { title: { text: "tokens" } };
  const ticks = [...new Set(all)].sort((a, b) => a - b), kept = [];
  for (let i = ticks.length - 1; i >= 0; --i)
    if (!kept.length || placeTokens(kept[0]) - placeTokens(ticks[i]) > (placeTokens(ticks[ticks.length - 1]) - placeTokens(ticks[0])) / 8) kept.unshift(ticks[i]);
  return { title: { text: "tokens" }, tickangle: 0, tickvals: kept.map(placeTokens), ticktext: kept.map(tokenText) };
}

// ---- arms over seeds ----

const shownQuantities = () => [...(state.at === "equal_loss" ? [{ key: "tokens", title: "tokens", meaning: "tokens trained until then", logarithmic: true }] : []),
  ...data.quantities.filter((quantity) => state.at === "equal_tokens" || quantity.key !== "loss")];

function drawSpread(panel) {
  const { arms } = pointNow(), { quantity } = panel, traces = [];
  arms.forEach((arm, a) => {
    const spread = arm[state.at][quantity.key], colour = colourOf(arm.arm), shared = { type: "scatter", showlegend: false };
    const name = escapeHtml(arm.arm), hover = { hovertemplate: `<b>${name}</b><br>%{text}: %{customdata:.4~g}<extra></extra>` };
    traces.push({ ...shared, ...hover, mode: "lines", name: `${arm.arm}, quartiles`, x: [a, a], y: [spread.low_quartile, spread.high_quartile],
      customdata: [spread.low_quartile, spread.high_quartile], text: ["lower quartile", "upper quartile"], line: { color: withOpacity(colour, 0.35), width: 14 } });
    traces.push({ ...shared, ...hover, mode: "lines", name: `${arm.arm}, median`, x: [a - 0.3, a + 0.3], y: [spread.median, spread.median],
      customdata: [spread.median, spread.median], text: ["median", "median"], line: { color: colour, width: 2.5 } });
    traces.push({ ...shared, ...hover, showlegend: true, mode: "markers", name: arm.arm, x: spread.values.map((_, i) => a + beside(i, spread.values.length)), y: spread.values,
      customdata: spread.values, text: arm.seeds.map((seed) => `${name}, seed ${seed}`),
      marker: { color: colour, size: 8, symbol: symbolOf(arm.arm), line: { color: css("--card"), width: 1 } } });
  });
  panel.about.textContent = [pointName(), pointNow()[state.at]].filter(Boolean).join(" · ");
  const values = traces.flatMap((trace) => trace.y);
  render(panel.plot, traces, { xaxis: armAxis(arms), yaxis: valueAxis(quantity, traces, values, quantity.title) });
}

// ---- over the grid ----

/** Medians of all grid points, a line an arm; every seed as a point. */
function drawGrid(panel) {
  const { quantity } = panel, count = data.arms.length;
  const traces = data.arms.flatMap((name, a) => {
    const groups = data.points.map((point) => point.arms.find((arm) => arm.arm === name)), colour = colourOf(name);
    const shift = count < 2 ? 0 : (a / (count - 1) - 0.5) * 0.16;
    const hover = { type: "scatter", hovertemplate: `<b>${escapeHtml(name)}</b><br>%{text}: %{customdata:.4~g}<extra></extra>` };
    const medians = groups.map((group) => group?.[state.at][quantity.key].median ?? null);
    const seeds = groups.flatMap((group, p) => (group ? group[state.at][quantity.key].values.map((y, i) =>
      ({ x: p + shift, y, text: `${escapeHtml(data.points[p].name)}, seed ${group.seeds[i]}` })) : []));
    return [{ ...hover, mode: "markers", showlegend: false, name: `${name}, seeds`, x: seeds.map((s) => s.x), y: seeds.map((s) => s.y), customdata: seeds.map((s) => s.y),
      text: seeds.map((s) => s.text), marker: { color: withOpacity(colour, 0.5), size: 6, symbol: symbolOf(name) } },
    { ...hover, mode: "lines+markers", name, x: medians.map((_, p) => p + shift), y: medians, customdata: medians, text: data.points.map((point) => `${escapeHtml(point.name)}, median`),
      line: { color: colour, width: 2, dash: ["solid", "dash", "dot", "dashdot"][a % 4] }, marker: { color: colour, size: 8, symbol: symbolOf(name) } }];
  });
  panel.names.replaceChildren(...data.arms.flatMap((name, a) => [element("span", `swatch arm${a % 8}`), `${name} `]));
  panel.about.textContent = state.at === "equal_loss" ? "at the equal loss of each grid point" : "at the equal tokens of each grid point";
  render(panel.plot, traces, { xaxis: { range: [-0.6, data.points.length - 0.4], tickvals: data.points.map((_, p) => p),
    ticktext: data.points.map((point) => escapeHtml(shortName(point.name.split(" ").map((part) => part.split("=").pop()).join(", ")))), showgrid: false,
    title: { text: data.points[0].name.split(" ").map((part) => part.split("=")[0]).join(", ") } },
  yaxis: valueAxis(quantity, traces, traces.flatMap((trace) => trace.y), quantity.title) });
}

// ---- differences ----

const comparedArms = () => pointNow().arms.filter((arm) => arm.difference?.[state.at]);

function drawDifference(panel) {
  const arms = comparedArms(), { quantity } = panel, traces = [];
  traces.push({ type: "scatter", mode: "lines", name: "no difference", x: [0, 0], y: [-0.6, arms.length - 0.4], text: ["", ""], showlegend: false,
    line: { color: css("--soft"), width: 1.5, dash: "dot" }, hoverinfo: "skip" });
  arms.forEach((arm, a) => {
    const own = arm.difference[state.at][quantity.key], colour = colourOf(arm.arm), name = escapeHtml(arm.arm);
    const shared = { type: "scatter", orientation: "h", hovertemplate: `<b>${name}</b><br>%{text}: %{x:+.4~g}<extra></extra>` };
    traces.push({ ...shared, mode: "markers", showlegend: false, name: `${arm.arm}, seeds`, x: own.values, y: own.values.map((_, i) => a + 0.22 + beside(i, own.values.length) / 3),
      text: arm.difference.seeds.map((seed) => `seed ${seed}`), marker: { color: withOpacity(colour, 0.55), size: 7, symbol: symbolOf(arm.arm) } });
    const interval = finite(own.low) && finite(own.high) && finite(own.median);
    traces.push({ ...shared, mode: "markers", name: arm.arm, x: [own.median], y: [a - 0.12],
      text: [interval ? `median, interval ${+own.low.toPrecision(3)} to ${+own.high.toPrecision(3)}` : "median"],
      marker: { color: colour, size: 11, symbol: "diamond" },
      ...(interval && { error_x: { type: "data", symmetric: false, color: colour, thickness: 2, width: 5,
        array: [own.high - own.median], arrayminus: [own.median - own.low] } }) });
  });
  panel.about.textContent = [pointName(), pointNow()[state.at]].filter(Boolean).join(" · ");
  const values = arms.flatMap((arm) => { const own = arm.difference[state.at][quantity.key]; return [...own.values, own.low, own.high, own.median]; });
  render(panel.plot, traces, { height: Math.max(200, 110 + 52 * arms.length), xaxis: { ...linearAxis([...values, 0], quantity.title), nticks: 5 },
    yaxis: armAxis(arms, { autorange: false, range: [arms.length - 0.4, -0.6] }) });
}

// ---- over training ----

function drawCurves(panel) {
  const { arms } = pointNow(), { quantity } = panel, bands = [], seeds = [], medians = [];
  for (const arm of arms) {
    const colour = colourOf(arm.arm), name = escapeHtml(arm.arm), curve = arm.curve[quantity.key], tokens = arm.curve.tokens;
    const hover = { type: "scatter", hovertemplate: `<b>${name}</b><br>%{text}: %{customdata:.4~g}<extra></extra>` };
    const text = tokens.map((t) => `${tokenText(t)} tokens`), x = tokens.map(placeTokens);
    bands.push({ type: "scatter", mode: "lines", showlegend: false, name: `${arm.arm}, quartiles`, x, y: curve.low_quartile, text, line: { width: 0, color: colour }, hoverinfo: "skip" },
      { type: "scatter", mode: "lines", showlegend: false, name: `${arm.arm}, quartiles`, x, y: curve.high_quartile, text, line: { width: 0, color: colour }, fill: "tonexty",
        fillcolor: withOpacity(colour, 0.15), hoverinfo: "skip" });
    for (const one of arm.replicates)
      seeds.push({ ...hover, mode: "lines", showlegend: false, name: `${arm.arm}, seed ${one.seed}`, x: one.tokens.map(placeTokens), y: one.values[quantity.key],
        customdata: one.values[quantity.key], text: one.steps.map((step) => `seed ${one.seed}, step ${step}`), line: { color: withOpacity(colour, 0.35), width: 1 } });
    medians.push({ ...hover, mode: "lines+markers", name: arm.arm, x, y: curve.median, customdata: curve.median, text,
      line: { color: colour, width: 2.4, dash: ["solid", "dash", "dot", "dashdot"][armIndex(arm.arm) % 4] }, marker: { color: colour, size: 5, symbol: symbolOf(arm.arm) } });
  }
  const traces = [...bands, ...seeds, ...medians], tokens = arms.flatMap((arm) => arm.curve.tokens);
  panel.names.replaceChildren(...arms.flatMap((arm) => [element("span", `swatch arm${armIndex(arm.arm) % 8}`), `${arm.arm} `]));
  panel.about.textContent = [pointName(), "median over seeds"].filter(Boolean).join(" · ");
  render(panel.plot, traces, { xaxis: tokenAxis(tokens), yaxis: valueAxis(quantity, traces, [...seeds, ...medians].flatMap((trace) => trace.y), quantity.title) });
}

// ---- timeline ----

const events = [["sink", "Attention sink"], ["value_drain", "Value drain"], ["gradient_sink", "Gradient sink"], ["norm_growth", "Norm growth"]];

function drawOnsets(panel) {
  const { arms } = pointNow(), [key] = panel.event;
  const steps = [...new Set(arms.flatMap((arm) => arm.replicates.flatMap((one) => one.steps)))].sort((a, b) => a - b);
  const last = steps[steps.length - 1], placeStep = (step) => Math.log2(step + 1), edge = placeStep(last) * 1.14 + 0.4;
  const traces = arms.map((arm, a) => {
    const seeds = arm.onsets[key].seeds, certain = seeds.map((onset) => onset.state === "reached");
    return { type: "scatter", orientation: "h", mode: "markers", name: arm.arm, x: seeds.map((onset, i) => (certain[i] ? placeStep(onset.step) : edge)),
      y: seeds.map((_, i) => a + beside(i, seeds.length)), customdata: seeds.map((onset, i) => (certain[i] ? onset.step : null)),
      text: seeds.map((onset, i) => `${escapeHtml(arm.arm)}, seed ${arm.seeds[i]}: ${certain[i] ? `step ${onset.step}` : onset.state === "uncertain" ? `not certain, from step ${onset.step}`
        : onset.state === "never" ? "never" : "not measured"}`),
      hovertemplate: "%{text}<extra></extra>", marker: { color: colourOf(arm.arm), size: 10,
        symbol: certain.map((yes) => (yes ? symbolOf(arm.arm) : `${symbolOf(arm.arm)}-open`)), line: { color: colourOf(arm.arm), width: 1.4 } } };
  });
  const medians = arms.flatMap((arm, a) => (finite(arm.onsets[key].median_step) ? [{ x: placeStep(arm.onsets[key].median_step), a, step: arm.onsets[key].median_step, arm: arm.arm }] : []));
  traces.push({ type: "scatter", mode: "markers", name: "median", showlegend: false, x: medians.map((m) => m.x), y: medians.map((m) => m.a), customdata: medians.map((m) => m.step),
    text: medians.map((m) => `${escapeHtml(m.arm)}, median: step ${m.step}`), hovertemplate: "%{text}<extra></extra>",
    marker: { symbol: "line-ns", size: 26, color: css("--text"), line: { color: css("--text"), width: 2 } } });
  const kept = [];  // measured steps, as many as have room
  for (let i = steps.length - 1; i >= 0; --i) if (!kept.length || placeStep(kept[0]) - placeStep(steps[i]) > edge / 7) kept.unshift(steps[i]);
  const rule = data.onset[key];
  panel.about.textContent = [pointName(), `${rule.quantity} ${rule.beyond} ${rule.threshold}`].filter(Boolean).join(" · ");
  render(panel.plot, traces, { height: Math.max(200, 110 + 44 * arms.length), yaxis: armAxis(arms, { range: [arms.length - 0.4, -0.6] }),
    xaxis: { title: { text: "step of the onset" }, range: [-0.4, edge + 0.6], tickangle: 0, tickvals: [...kept.map(placeStep), edge], ticktext: [...kept.map(String), "none"] } });
}

// ---- the page ----

const figures = {
  ...(data.points.length > 1 && { grid: () => shownQuantities().map((quantity) => ({ draw: drawGrid, quantity, title: quantity.title, wide: 3, named: true })) }),
  spread: () => shownQuantities().map((quantity) => ({ draw: drawSpread, quantity, title: quantity.title, wide: 2 })),
  difference: () => (comparedArms().length ? shownQuantities().map((quantity) => ({ draw: drawDifference, quantity, title: `${quantity.title}: arm − first arm`, wide: 2 })) : []),
  curves: () => data.quantities.map((quantity) => ({ draw: drawCurves, quantity, title: quantity.title, wide: 3, named: true })),
  timeline: () => events.map((event) => ({ draw: drawOnsets, event, title: event[1], wide: 3 })),
};

const built = {};
/** The panels of a figure as they are chosen now; empties and refills its place in the page. */
function buildFigure(id) {
  const placeOf = document.querySelector(`#${id} .panels`), old = [...placeOf.querySelectorAll(".plot")];
  placeOf.replaceChildren();
  old.forEach(release);
  built[id] = figures[id]();
  if (!built[id].length) element("p", "empty", placeOf).textContent = "There is nothing to compare with.";
  for (const panel of built[id]) {
    const box = element("div", `panel span${panel.wide}`, placeOf);
    element("h4", "", box).textContent = panel.title;
    const key = element("div", "key", box);
    if (panel.named) panel.names = element("span", "names", key);
    panel.about = element("span", "about", key);
    panel.plot = element("div", "plot", box);
  }
}

const drawAll = () => Object.values(built).flat().forEach((panel) => panel.draw(panel));
function rebuild(ids) {
  ids.forEach(buildFigure);
  ids.flatMap((id) => built[id]).forEach((panel) => panel.draw(panel));
}

// More than three sentences on what is left out would push the numbers off the screen.
function foldWarnings() {
  const warnings = [...document.querySelectorAll("p.warning")].filter((one) => one.id !== "trouble" && !one.closest("noscript"));
  if (warnings.length <= 3) return;
  const fold = document.createElement("details");
  fold.className = "warning";
  element("summary", "", fold).textContent = `${warnings.length} notes on what is not compared`;
  warnings[0].before(fold);
  warnings.forEach((one) => { one.className = ""; fold.append(one); });
}

function start() {
  foldWarnings();
  const point = document.getElementById("point"), at = document.getElementById("at"), axis = document.getElementById("axis");
  data.points.forEach((one, p) => point.add(new Option(one.name || "all", p)));
  document.getElementById("point-control").hidden = data.points.length === 1;
  point.addEventListener("change", () => { state.point = Number(point.value); rebuild(Object.keys(figures)); });
  at.addEventListener("change", () => { state.at = at.value; rebuild(["spread", "difference", ...(figures.grid ? ["grid"] : [])]); });
  axis.addEventListener("change", () => { state.axis = axis.value; built.curves.forEach((panel) => panel.draw(panel)); });
  document.getElementById("controls").hidden = false;
  rebuild(Object.keys(figures));
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

begin(start);
