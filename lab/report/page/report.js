// Draws the figures of a report from the numbers in #data:
//   arms[]: name, length (tokens), sink (token), layers,
//     training: {step[], loss[], lr[], grad_norm[], tokens_per_second[]}
//     validation: {step[], loss[], tokens[]} of a run that has one, with recalled[] if it tells that
//     layer:  {steps[], series: {key: [step][layer]}}
//     head:   {steps[], series: {key: [step][layer][head]}}
//     token:  {steps[], tokens[], series: {key: [step][layer][token]}}
//     maps[]: {step, layer, head, start[] (first token of a group), length, labels[], weights[][]}
//   series: true of checkpoints that were measured one after the other, whose training is {step[], loss[]}
//   dose: {key, values[] by arm}, of a run whose arms give one key at least three numbers
//   timeline: {settings: {event: {quantity, beyond, threshold}, measurements},
//     arms[]: {events: {event: {first, places[]}}, growth[] by layer}}; a place is {layer, head, state, step}
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

const armColour = (arm) => css(`--arm${arm.index % 8}`);
const shownArms = () => arms.filter((arm) => arm.shown);

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

// ---- traces ----

/** What a curve is called in a legend. */
const curveName = (arm, line) => [arms.length > 1 || !line.label ? arm.name : "", line.label ?? ""].filter(Boolean).join(", ");

function trace(arm, line, x, y, shown, extra = {}) {
  const colour = armColour(arm);
  const single = x.length < 2;
  // Earlier arms are drawn wider, so that a later one on top of them does not hide them.
  const weight = arms.length > 1 ? 1 - arm.index / (arms.length - 1) : 0;
  return {
    type: "scatter", mode: single || (line.markers ?? true) ? "lines+markers" : "lines", x, y,
    customdata: y, text: shown, name: curveName(arm, line),
    line: { color: colour, width: (line.style === "dotted" ? 1.6 : 2) + 1.3 * weight, dash: dashOf[line.style ?? "solid"] },
    marker: { color: line.style === "dotted" ? css("--card") : colour, size: (x.length > 30 ? 3 : 5) + 2.5 * weight,
      symbol: symbols[arm.index % 8], line: { color: colour, width: 1.4 } },
    hovertemplate: `<b>${escapeHtml(arm.name)}</b>${line.label ? ", " + line.label : ""}<br>` +
      "%{text}: %{customdata:.4~g}<extra></extra>",
    ...extra,
  };
}

function reference(x0, x1, value, label) {
  return { type: "scatter", mode: "lines", x: [x0, x1], y: [value, value], customdata: [value, value],
    text: [label, label], name: label, line: { color: css("--soft"), width: 1.5, dash: "dot" },
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
            { mode: "lines", name: `${curveName(arm, line)}, layer ${l}`,
              showlegend: state.layer === "each" && (l === 0 || l === arm.layers - 1),
              line: { color: withOpacity(armColour(arm), opacity), width: 1.1,
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
  for (const arm of shownArms()) {
    const index = indexOfStep(arm.layer.steps, state.step);
    for (const line of panel.lines) {
      const y = layerSeries(arm, line.key)?.[index];
      if (y) traces.push(trace(arm, line, y.map((_, l) => l), y,
        y.map((_, l) => `step ${arm.layer.steps[index]}, layer ${l}`)));
    }
  }
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

/** The values of a dose, ascending; they stand at equal distances. */
const doses = data.dose ? [...new Set(data.dose.values)].sort((a, b) => a - b) : [];

/** A mark for each arm at the chosen step, and a line through the mean of the arms of one value. */
function doseTraces(panel) {
  return panel.lines.flatMap((line) => {
    const points = shownArms().flatMap((arm) => {
      const rows = layerSeries(arm, line.key);
      if (!rows) return [];
      const index = indexOfStep(arm.layer.steps, state.step), value = data.dose.values[arm.index];
      return [{ x: doses.indexOf(value), y: overLayers(rows[index]), text: `${escapeHtml(arm.name)}, ${
        escapeHtml(data.dose.key)} ${value}, step ${arm.layer.steps[index]}` }];
    });
    const means = doses.map((value, x) => {
      const group = points.filter((point) => point.x === x && finite(point.y));
      return group.length ? group.reduce((sum, point) => sum + point.y, 0) / group.length : null;
    });
    const colour = css("--arm0"), style = line.style ?? "solid", name = line.label ?? "";
    const shared = { type: "scatter", hovertemplate: "%{text}: %{customdata:.4~g}<extra></extra>" };
    return [
      { ...shared, mode: "lines", x: doses.map((_, x) => x), y: means, customdata: means,
        text: doses.map((value) => `mean at ${value}`), name: [name, "mean"].filter(Boolean).join(", "),
        line: { color: colour, width: 2, dash: dashOf[style] } },
      { ...shared, mode: "markers", x: points.map((p) => p.x), y: points.map((p) => p.y),
        customdata: points.map((p) => p.y), text: points.map((p) => p.text),
        name: [name, "arms"].filter(Boolean).join(", "),
        marker: { size: 7, color: style === "dotted" ? css("--card") : withOpacity(colour, 0.55),
          line: { color: colour, width: 1.2 } } }];
  });
}

function validationTraces(panel) {
  const key = panel.lines[0].key;
  if (key !== "loss" && key !== "recalled") return [];
  return shownArms().filter((arm) => arm.validation?.[key]).map((arm) => trace(arm,
    { style: "dashed", label: "validation" }, arm.validation.step.map(place), arm.validation[key],
    arm.validation.step.map((step) => `step ${step}`)));
}

function trainingTraces(panel) {
  const training = shownArms().filter((arm) => arm.training[panel.lines[0].key]).map((arm) => trace(arm, { markers: Boolean(data.series) }, arm.training.step.map(place),
    arm.training[panel.lines[0].key], arm.training.step.map((step) => `step ${step}`),
    { line: { color: armColour(arm), width: arms.length > 1 && arm.index === 0 ? 2.6 : 1.5 } }));
  return [...training, ...validationTraces(panel)];
}

// ---- panels: what each kind draws ----

const kinds = {
  training: {
    about: () => (data.series ? "each checkpoint" : "each training step"),
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
    about: () => `by layer, at step ${state.step}`,
    traces: layerTraces,
    axis: () => ({ title: { text: "layer" }, dtick: Math.ceil(layerCount / 12), range: [-0.4, layerCount - 0.6] }),
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
  dose: {
    about: () => [`at step ${state.step}`, layerName()].filter(Boolean).join(", "),
    traces: doseTraces,
    axis: () => ({ title: { text: data.dose.key }, range: [-0.3, doses.length - 0.7],
      tickvals: doses.map((_, x) => x), ticktext: doses.map((value) => tickText(value)) }),
    span: () => [-0.3, doses.length - 0.7],
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
  panel.names?.replaceChildren(...shownArms().flatMap((arm) => [swatch(arm), `${arm.name} `]));
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

function drawMap(panel) {
  const { arm, map } = panel;
  panel.heading.replaceChildren(swatch(arm), arm.name);
  panel.about.textContent = [`layer ${map.layer}, head ${map.head}, step ${map.step}`, mapCells(map)]
    .filter(Boolean).join(" · ");
  renderMap(panel.plot, map, state.choice.map);
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

// ---- timeline ----

// Colours that a run of three arms or fewer does not use.
const events = [
  { key: "sink", title: "attention sink", colour: "--arm7", symbol: "circle", heads: "sink_score" },
  { key: "value_drain", title: "value drain", colour: "--arm4", symbol: "square", heads: "norm.value.ratio", series: "norm.value.ratio" },
  { key: "gradient_sink", title: "gradient sink", colour: "--arm3", symbol: "diamond", series: "gradient_sink_ratio" },
  { key: "norm_growth", title: "norm growth", colour: "--arm5", symbol: "triangle-up", series: "norm.resid_post.ratio" },
];
const timelineOf = (arm) => data.timeline.arms[arm.index];
const stateOrder = ["reached", "uncertain", "never", "missing"];

/** Steps and values of an event's quantity in a place, as multiples of its threshold. */
function placeCurve(arm, event, at) {
  const { beyond, threshold } = data.timeline.settings[event.key];
  const byHead = finite(at.head) && arm.head.series[event.heads];
  const values = byHead ? byHead.map((rows) => rows[at.layer]?.[at.head] ?? null)
    : layerSeries(arm, event.series)?.map((row) => row[at.layer] ?? null) ?? [];
  return { steps: byHead ? arm.head.steps : arm.layer.steps,
    values: values.map((value) => (!finite(value) || (beyond === "below" && value === 0) ? null
      : beyond === "below" ? threshold / value : value / threshold)) };
}

/** Where an event comes first: in the run, or in the chosen layer. */
function eventPlace(arm, event) {
  const { first, places } = timelineOf(arm).events[event.key];
  if (!finite(state.layer)) return first;
  const last = (at) => { const { values } = placeCurve(arm, event, at); return values[values.length - 1] ?? 0; };
  return places.filter((at) => at.layer === state.layer).sort((a, b) =>
    stateOrder.indexOf(a.state) - stateOrder.indexOf(b.state) || (a.step ?? 0) - (b.step ?? 0) || last(b) - last(a))[0];
}

const onsetText = (at) => ({ reached: `step ${at.step}`, uncertain: `from step ${at.step}, not certain`, never: "never",
  missing: "not measured" }[at.state]);
const placeName = (at) => (layerCount === 1 && heads === 1 ? "" : finite(at.head) ? `layer ${at.layer}, head ${at.head}` : `layer ${at.layer}`);

function drawTimeline(panel) {
  const { arm } = panel, traces = [];
  for (const event of events) {
    const at = eventPlace(arm, event);
    if (!at) continue;
    const { steps, values } = placeCurve(arm, event, at), colour = css(event.colour);
    const name = `${event.title}: ${onsetText(at)}`, where = placeName(at);
    const text = steps.map((step) => [`step ${step}`, where].filter(Boolean).join(", "));
    const shared = { type: "scatter", hovertemplate: `<b>${event.title}</b><br>%{text}: %{customdata:.3~g} times the threshold<extra></extra>` };
    traces.push({ ...shared, mode: "lines+markers", name, x: steps.map(place), y: values, customdata: values, text,
      line: { color: colour, width: 2 }, marker: { color: colour, size: 5, symbol: event.symbol } });
    const index = steps.indexOf(at.step);
    if (index < 0) continue;
    traces.push({ ...shared, mode: "markers", showlegend: false, name: `onset of ${event.title}`, x: [place(at.step)], y: [values[index]],
      customdata: [values[index]], text: [text[index]],
      marker: { color: colour, size: 15, symbol: at.state === "reached" ? "star" : "star-open", line: { color: css("--card"), width: 1 } } });
  }
  panel.heading.replaceChildren(swatch(arm), arm.name);
  panel.about.textContent = finite(state.layer) && layerCount > 1 ? `${layerName()} · multiples of the threshold` : "multiples of the threshold, where each comes first";
  const line = reference(place(allSteps[0]), place(allSteps[allSteps.length - 1]), 1, "threshold");
  const all = [line, ...traces];
  render(panel.plot, all, { showlegend: true, height: 390, margin: { l: 58, r: 14, t: 14, b: 130 },
    legend: { orientation: "h", y: -0.2, font: { size: 11 } },
    xaxis: countAxis(allSteps, "training step", panel), yaxis: logAxis(all, all.flatMap((t) => t.y), "times the threshold") });
}

function drawGrowth(panel) {
  const { arm } = panel, fits = timelineOf(arm).growth, rows = arm.layer.series.resid_post_max_abs;
  const last = rows[rows.length - 1];
  const layer = finite(state.layer) ? state.layer : last.reduce((best, value, l) => (value > last[best] ? l : best), 0);
  const fit = fits[layer], steps = arm.layer.steps, end = steps[steps.length - 1];
  const traces = [trace(arm, { label: "largest |x|", markers: true }, steps.map(place), rows.map((row) => row[layer]),
    steps.map((step) => `step ${step}`), { mode: "markers", marker: { color: armColour(arm), size: 7, symbol: "circle" } })];
  if (fit && finite(fit.rmse)) {
    const count = 160, top = place(end);
    const shown = Array.from({ length: count + 1 }, (_, i) => (state.axis === "log" ? 2 ** ((i / count) * top) - 1 : (i / count) * top));
    const value = (t) => { const x = fit.gamma * t + fit.t0; return fit.A * Math.exp(-fit.lambda * x) * Math.log(x) + fit.K; };
    traces.push(trace(arm, { label: "fit" }, shown.map(place), shown.map(value), shown.map((t) => `step ${Math.round(t)}`),
      { mode: "lines", line: { color: css("--soft"), width: 2 } }));
  }
  panel.heading.replaceChildren(swatch(arm), arm.name);
  panel.about.textContent = [layerCount > 1 ? `layer ${layer}${finite(state.layer) ? "" : ", where it ends largest"}` : "",
    fit && finite(fit.rmse) ? `rmse ${+fit.rmse.toPrecision(3)}${finite(fit.r_squared) ? `, R² ${fit.r_squared.toFixed(4)}` : ""}${fit.at_bound ? ", a parameter at its bound" : ""}` : "fewer than 6 measured steps: no fit"]
    .filter(Boolean).join(" · ");
  render(panel.plot, traces, { xaxis: countAxis(allSteps, "training step", panel),
    yaxis: linearAxis(traces.flatMap((t) => t.y), "|x|", true) });
}

const armPanels = (draw, has) => arms.filter(has).map((arm) => ({ draw, arm, wide: arms.length === 1 ? 6 : 3, overSteps: true }));

// ---- the figures ----

const sink = arms[0].sink;
const pair = (key) => [{ key: `${key}.sink`, label: `token ${sink}` },
  { key: `${key}.others`, style: "dotted", label: "other tokens" }];
const solidDotted = [`solid: token ${sink}`, "dotted: others"];
const withLargest = (key) => [{ key, label: "mean over heads", faint: true },
  { key: `${key}_max`, style: "dashed", label: "largest head" }];
const heads = arms[0].head.series.sink_score?.[0][0].length ?? 0;
const sinkLines = (key) => (heads > 1 ? withLargest(key) : [{ key, faint: true }]);
const sinkStyles = heads > 1 ? ["solid: mean over heads", "dashed: largest head"] : [];

/** A panel over steps (wide) and the same by layer (narrow), which one layer does not need. */
const byLayer = layerCount > 1;
const stepsAndLayers = (panel, alone = 3) => (byLayer
  ? [{ ...panel, kind: "steps", wide: 4 }, { ...panel, kind: "layers", wide: 2 }]
  : [{ ...panel, kind: "steps", wide: alone }]);

const scaled = arms.some((arm) => arm.layer.series["norm.value_scaled.sink"]);
const valueStyles = scaled ? ["solid: value", "dashed: after V-scale"] : [];

const pathPanels = (kind) => ["q", "k", "v"].map((path) => ({
  kind, wide: 2, log: true, title: { q: "Query path", k: "Key path", v: "Value path" }[path],
  unit: "gradient norm",
  styles: kind === "tokens" ? (path === "v" && scaled ? ["dashed: after V-scale"] : []) : solidDotted,
  lines: kind === "tokens"
    ? [{ key: `grad.${path}` }, ...(path === "v" ? [{ key: "grad.v_scaled", style: "dashed", label: "after V-scale" }] : [])]
    : pair(`grad.${path}`),
})).map((panel, _, group) => Object.assign(panel, { group }));

const normPanels = (kind) => ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"].map((key) => ({
  kind, wide: 2, log: true, title: key, unit: "norm", lines: pair(`norm.${key}`), styles: solidDotted }));

const branchPanels = (kind, branch) => ["bloat", "compress", "change"].map((name) => ({
  kind, wide: 2, log: true, title: `${name}, ${branch === "attn" ? "attention" : "MLP"} branch`,
  unit: "ratio", lines: pair(`${name}_${branch}`), styles: solidDotted }));

const dosePanels = () => [
  { title: `Norm of token ${sink} entering a layer`, unit: "norm of resid_pre", log: true,
    lines: pair("norm.resid_pre"), styles: solidDotted },
  { title: `Norm of token ${sink} leaving it`, unit: "norm of resid_post", log: true,
    lines: pair("norm.resid_post"), styles: solidDotted },
  { title: `Value norm, token ${sink} over others`, unit: "ratio", log: true, lines: [{ key: "norm.value.ratio" }] },
  { title: "Sink score", unit: "score", fromZero: true, lines: [{ key: "sink_score" }], nulls: ["sink_score_null"],
    styles: ["grey: uniform attention"] },
  { title: "Gradient-sink ratio", unit: "R_GS", log: true, lines: [{ key: "gradient_sink_ratio" }] },
  { title: "Compress, attention branch", unit: "ratio", log: true, lines: pair("compress_attn"), styles: solidDotted },
].map((panel) => ({ ...panel, kind: "dose", wide: 2, unnamed: true }));

const figures = [
  ...(data.dose ? [{ id: "dose", panels: dosePanels }] : []),
  { id: "loss", ...(!data.series && { choices: ["loss", "gradient norm", "learning rate", "tokens per second",
    ...(arms.some((arm) => arm.validation?.recalled) ? ["share recalled"] : [])] }),
    panels: (choice) => {
      const key = ["loss", "grad_norm", "lr", "tokens_per_second", "recalled"][choice];
      return [{ kind: "training", wide: 6, title: [data.series ? "Loss" : "Training loss", "Global gradient norm",
        "Learning rate", "Speed", "Held-out answers recalled"][choice],
      unit: ["nats", "norm", "rate", "tokens/s", "share"][choice],
      log: choice === 1, fromZero: choice > 1, lines: [{ key }],
      styles: [0, 4].includes(choice) && arms.some((arm) => arm.validation) ? ["dashed: validation"] : [] }];
    } },
  { id: "timeline", panels: () => armPanels(drawTimeline, (arm) => events.some((event) => timelineOf(arm).events[event.key].first)) },
  { id: "growth", panels: () => armPanels(drawGrowth, (arm) => arm.layer.series.resid_post_max_abs) },
  { id: "sink", panels: () => [
    ...stepsAndLayers({ title: "Sink score", unit: "score", fromZero: true, lines: sinkLines("sink_score"),
      nulls: ["sink_score_null"], styles: [...sinkStyles, "grey: uniform attention"] }, 2),
    ...stepsAndLayers({ title: "Sink mass", unit: "mass", log: true, lines: sinkLines("sink_mass"),
      nulls: ["sink_mass_null"], styles: [...sinkStyles, "grey: uniform attention"] }, 2),
    ...stepsAndLayers({ title: "Entropy of attention", unit: "nats", fromZero: true,
      lines: [{ key: "attention_entropy", faint: true }] }, 2),
    ...(heads && layerCount * heads > 1 ? arms.map((arm) => ({ draw: drawHeads, arm, wide: 3 })) : []) ] },
  { id: "gradient", panels: () => [
    ...stepsAndLayers({ title: "Gradient-sink ratio", unit: "R_GS", log: true,
      lines: [{ key: "gradient_sink_ratio", faint: true, median: true }] })
      .map((panel) => ({ ...panel, styles: panel.kind === "steps" ? ["dashed: median over measured steps"] : [] })),
    { kind: "tokens", wide: byLayer ? 6 : 3, log: true, title: "Gradient at the attention input",
      unit: "gradient norm", lines: [{ key: "grad.attn_in" }] }] },
  { id: "norms", ...(byLayer && { choices: ["over training", "by layer"] }), panels: (choice) => [
    ...normPanels(choice === 0 ? "steps" : "layers"),
    { kind: choice === 0 ? "steps" : "layers", wide: 2, log: true, title: "resid_post, ratio",
      unit: `token ${sink} / others`, lines: [{ key: "norm.resid_post.ratio", faint: true }] }] },
  { id: "values", panels: () => [
    ...stepsAndLayers({ title: `Value norm, token ${sink} over others`, unit: "ratio", log: true,
      lines: [{ key: "norm.value.ratio", faint: true, label: "value" },
        { key: "norm.value_scaled.ratio", style: "dashed", label: "after V-scale" }],
      styles: valueStyles }),
    { kind: "tokens", wide: byLayer ? 6 : 3, log: true, title: "Value norm", unit: "norm",
      lines: [{ key: "norm.value", label: "value" },
        { key: "norm.value_scaled", style: "dashed", label: "after V-scale" }],
      styles: valueStyles }] },
  { id: "paths", panels: () => ["tokens", "steps", ...(byLayer ? ["layers"] : [])].flatMap(pathPanels) },
  { id: "map", choices: mapChoices, panels: () => arms.flatMap((arm) =>
    arm.maps.map((map) => ({ draw: drawMap, arm, map, wide: 3 }))) },
  { id: "branches", choices: ["attention branch", "MLP branch"], panels: (choice) =>
    ["steps", ...(byLayer ? ["layers"] : [])].flatMap((kind) => branchPanels(kind, choice ? "mlp" : "attn")) },
  { id: "outliers", panels: () => [
    ...stepsAndLayers({ title: "Size of features", unit: "|x|", log: true, lines: [
      { key: "resid_post_max_abs", label: "largest" },
      { key: "resid_post_median_abs", style: "dotted", label: "median" }],
    styles: ["solid: largest", "dotted: median"] }),
    ...stepsAndLayers({ title: "Excess kurtosis", unit: "kurtosis",
      lines: [{ key: "resid_post_kurtosis", faint: true }] }),
    ...stepsAndLayers({ title: "Entropy of head gates", unit: "nats",
      lines: [{ key: "head_gate_entropy", faint: true }] })] },
];

// ---- building and redrawing the page ----

function swatch(arm) {
  return element("span", `swatch arm${arm.index % 8}`);
}

/** Whether any arm has a curve of the panel; a model of one's own may not name what it takes. */
const hasData = (panel) => !panel.lines || panel.kind === "training" || arms.some((arm) =>
  panel.lines.some((line) => layerSeries(arm, line.key) || arm.token.series[line.key]));

/** The panels of a figure as it is chosen now; empties and refills its place in the page. */
function buildFigure(figure) {
  const place = document.querySelector(`#${figure.id} .panels`);
  const old = [...place.querySelectorAll(".plot")];
  place.replaceChildren();
  old.forEach(release);
  const choice = (state.choice[figure.id] ??= 0);
  figure.built = figure.panels(choice).filter(hasData);
  if (!figure.built.length) {
    element("p", "empty", place).textContent = "This run recorded none.";
    return;
  }
  if (figure.choices) buildChoice(figure, choice, place);
  for (const panel of figure.built) {
    const box = element("div", `panel span${panel.wide}`, place);
    panel.box = box;
    panel.heading = element("h4", "", box);
    const key = element("div", "key", box);
    if (arms.length > 1 && !panel.arm && !panel.unnamed) panel.names = element("span", "names", key);
    panel.about = element("span", "about", key);
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
    drawAll((panel) => panel.draw === drawHeads || ["layers", "tokens", "dose"].includes(panel.kind));
  });
  const axis = document.getElementById("axis");
  axis.addEventListener("change", () => {
    state.axis = axis.value;
    drawAll((panel) => panel.kind === "steps" || panel.kind === "training" || panel.overSteps);
  });
  document.getElementById("controls").hidden = false;
}

function start() {
  buildControls();
  figures.forEach(buildFigure);
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
}

begin(start);
