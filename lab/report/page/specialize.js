// Draws the figures of a record weir.specialize/1 in #data, whose numbers that are not finite are null:
// settings, cases: [{law, activation, heads, dynamics | risk | pruning}].

const data = JSON.parse(document.getElementById("data").textContent);
const { settings, cases } = data;
const state = { case: 0, seed: 0, dimension: 0 };

const colours = ["--arm0", "--arm1", "--arm2", "--arm3", "--arm4", "--arm5"];
const dashes = ["solid", "dash", "dot", "dashdot"];
const caseName = (one) => `${one.law}, ${one.activation}, ${one.heads} head${one.heads === 1 ? "" : "s"}`;
const chosen = () => cases[state.case];

function line(name, x, y, colour, style = {}) {
  return { type: "scatter", mode: style.mode ?? "lines", name, x, y, showlegend: style.legend ?? true,
    line: { color: style.opacity ? withOpacity(css(colour), style.opacity) : css(colour), width: style.width ?? 2, dash: style.dash ?? "solid" },
    marker: { color: css(colour), size: 6 }, connectgaps: false, hoverinfo: style.silent ? "skip" : undefined,
    hovertemplate: style.silent ? undefined : `<b>${escapeHtml(name)}</b><br>%{x:.4~g}, %{y:.4~g}<extra></extra>` };
}

const legendBelow = { showlegend: true, height: 400, margin: { l: 58, r: 14, t: 14, b: 110 },
  legend: { orientation: "h", y: -0.22, font: { size: 11 } } };

const mean = (values) => {
  const numbers = values.filter(finite);
  return numbers.length ? numbers.reduce((a, b) => a + b, 0) / numbers.length : null;
};

// ---- dynamics ----

const runOf = (one) => one.dynamics.dimensions[Math.min(state.dimension, one.dynamics.dimensions.length - 1)];
const where = (one) => `${caseName(one)} · D = ${runOf(one).dimension} · seed ${settings.first_seed + state.seed}`;

/** Simulation of the chosen seed as lines, the flow dashed: `pick(by head, h)` of each head. */
function simulated(one, field, flowField, series) {
  const run = runOf(one), flow = one.dynamics.flow, times = one.dynamics.times, traces = [];
  for (const { name, colour, pick } of series) {
    traces.push(line(name, run.time, run[field].map((seeds) => pick(seeds[state.seed])), colour));
    if (flow) traces.push(line(`${name}, flow`, times, flow[flowField].map((now, t) => pick(now, t)), colour, { dash: "dash", width: 1.3, legend: false }));
  }
  return traces;
}

function drawOverlap(panel) {
  const one = chosen(), F = runOf(one).m[0][0][0].length, h = panel.direction;
  if (h >= F) return;
  const series = Array.from({ length: one.heads }, (_, head) =>
    ({ name: `head ${head}`, colour: colours[head % colours.length], pick: (m) => m[head][h] }));
  const traces = simulated(one, "m", "m", series);
  panel.about.textContent = where(one);
  render(panel.plot, traces, { ...legendBelow, xaxis: { title: { text: "time" } },
    yaxis: linearAxis(traces.flatMap((trace) => trace.y), `overlap with direction ${h}`) });
}

function drawNorms(panel) {
  const one = chosen();
  const series = Array.from({ length: one.heads }, (_, head) => ({ name: `head ${head}`, colour: colours[head % colours.length],
    pick: (r) => (Array.isArray(r[head]) ? r[head][head] : r[head]) }));
  const traces = simulated(one, "r_diagonal", "r", series);
  panel.about.textContent = where(one);
  render(panel.plot, traces, { ...legendBelow, xaxis: { title: { text: "time" } },
    yaxis: linearAxis(traces.flatMap((trace) => trace.y), "|k|²", true) });
}

function drawLoss(panel) {
  const one = chosen(), { dynamics } = one, run = runOf(one);
  const traces = [line("simulation, mean over seeds", run.time, run.loss.map(mean), "--arm0")];
  if (dynamics.flow) traces.push(line("flow", dynamics.times, dynamics.flow.loss, "--arm1", { dash: "dash" }));
  const ends = [dynamics.times[0], dynamics.times[dynamics.times.length - 1]];
  traces.push(line("Bayes risk", ends, ends.map(() => dynamics.bayes.value), "--soft", { dash: "dot", width: 1.5 }));
  panel.about.textContent = `${caseName(one)} · D = ${run.dimension}`;
  render(panel.plot, traces, { ...legendBelow, xaxis: { title: { text: "time" } },
    yaxis: linearAxis(traces.flatMap((trace) => trace.y), "loss per coordinate") });
}

function drawDeviation(panel) {
  const { dimensions } = chosen().dynamics, x = dimensions.map((run) => run.dimension), last = (list) => list[list.length - 1];
  const y = dimensions.map((run) => last(run.deviation)), other = dimensions.map((run) => last(run.gradient_deviation));
  const traces = [line("flow with the learning-rate term", x, y, "--arm0", { mode: "lines+markers" }),
    line("flow without it", x, other, "--arm1", { mode: "lines+markers" }),
    line("1/√D through the first point", x, x.map((D) => y[0] * Math.sqrt(x[0] / D)), "--soft", { dash: "dot", width: 1.5 })];
  panel.about.textContent = caseName(chosen());
  const log = (values, title) => ({ type: "log", title: { text: title }, tickvals: logTicks(Math.min(...values), Math.max(...values)),
    ticktext: logTicks(Math.min(...values), Math.max(...values)).map(tickText) });
  render(panel.plot, traces, { ...legendBelow, xaxis: log(x, "dimension D"),
    yaxis: log(traces.flatMap((trace) => trace.y).filter((v) => finite(v) && v > 0), "deviation of r") });
}

// ---- risk and pruning ----

const laws = [...new Set(cases.map((one) => one.law))];
const activations = [...new Set(cases.map((one) => one.activation))];
const headCounts = [...new Set(cases.map((one) => one.heads))];

function drawRisk(panel) {
  const own = cases.filter((one) => one.law === panel.law), excess = panel.field === "excess";
  const traces = own.map((one) => line(`${one.activation}, ${one.heads} heads`, one.risk.factor, one.risk[panel.field].map((e) => (e.value > 0 ? e.value : null)),
    colours[activations.indexOf(one.activation) % colours.length], { mode: "lines+markers", dash: dashes[headCounts.indexOf(one.heads) % dashes.length] }));
  if (!excess) traces.push(line("Bayes risk", own[0].risk.factor, own[0].risk.bayes.map((e) => e.value), "--soft", { dash: "dot", width: 1.5 }));
  panel.about.textContent = `law ${panel.law}`;
  const values = traces.flatMap((trace) => trace.y).filter((v) => finite(v) && v > 0), ticks = logTicks(Math.min(...values), Math.max(...values));
  render(panel.plot, traces, { ...legendBelow, xaxis: { title: { text: "factor of the strengths" } },
    yaxis: { type: "log", title: { text: excess ? "excess over Bayes" : "risk" }, tickvals: ticks, ticktext: ticks.map(tickText) } });
}

function drawPruning(panel) {
  const own = cases.filter((one) => one.law === panel.law), traces = [], shapes = [];
  for (const one of own) {
    const { curves, directions, support } = one.pruning, x = curves[0].risk.map((_, i) => i);
    const colour = colours[activations.indexOf(one.activation) % colours.length], dash = dashes[headCounts.indexOf(one.heads) % dashes.length];
    for (const curve of curves) traces.push(line("a seed", x, curve.risk, colour, { width: 0.8, opacity: 0.3, legend: false, silent: true }));
    traces.push(line(`${one.activation}, ${one.heads} heads`, x, x.map((i) => median(curves.map((curve) => curve.risk[i]))), colour, { mode: "lines+markers", dash }));
    for (const [at, style] of [[one.heads - directions, "dot"], [support > 0 ? one.heads - support : -1, "dash"]])
      if (at >= 0) shapes.push({ type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1, line: { color: css("--soft"), width: 1, dash: style } });
  }
  const ends = [0, Math.max(...own.map((one) => one.heads)) - 1];
  traces.push(line("Bayes risk", ends, ends.map(() => own[0].pruning.bayes.value), "--soft", { dash: "dot", width: 1.5 }));
  panel.about.textContent = `law ${panel.law} · dotted H - F, dashed H - points of the law`;
  render(panel.plot, traces, { ...legendBelow, shapes, xaxis: { title: { text: "heads removed" }, dtick: 1 },
    yaxis: linearAxis(traces.flatMap((trace) => trace.y), "risk") });
}

// ---- the page ----

const byLaw = (draw, title, field) => laws.map((law) => ({ draw, title: `${title}, ${law}`, law, field, wide: laws.length > 1 ? 3 : 6 }));
const directionCount = () => Math.max(...cases.map((one) => one.dynamics.dimensions[0].m[0][0][0].length));
const figures = {
  overlap: () => Array.from({ length: directionCount() }, (_, direction) =>
    ({ draw: drawOverlap, title: `Overlap with direction ${direction}`, direction, wide: directionCount() > 1 ? 3 : 6 })),
  norms: () => [{ draw: drawNorms, title: "Squared norms of keys", wide: 6 }],
  loss: () => [{ draw: drawLoss, title: "Loss", wide: 6 }],
  deviation: () => [{ draw: drawDeviation, title: "Deviation from the flow", wide: 6 }],
  risk: () => byLaw(drawRisk, "Risk", "risk"),
  excess: () => byLaw(drawRisk, "Excess over Bayes", "excess"),
  pruning: () => byLaw(drawPruning, "Risk by heads removed", "pruning"),
};

function start() {
  const panels = buildPanels(figures);
  const drawAll = () => panels.forEach((panel) => panel.draw(panel));
  const dynamics = cases[0].dynamics;
  const choices = { case: cases.map(caseName),
    seed: dynamics ? Array.from({ length: settings.seeds }, (_, s) => `${settings.first_seed + s}`) : [],
    dimension: dynamics ? dynamics.dimensions.map((run) => `${run.dimension}`) : [] };
  for (const [key, names] of Object.entries(choices)) {
    const select = document.getElementById(key);
    names.forEach((name, i) => select.add(new Option(name, i)));
    select.addEventListener("change", () => {
      state[key] = Number(select.value);
      drawAll();
    });
    document.getElementById(`${key}-control`).hidden = !dynamics || names.length < 2;
  }
  document.getElementById("controls").hidden = false;
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

begin(start);
