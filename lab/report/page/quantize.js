// Draws the figures of a record weir.quantize/1 in #data, whose numbers that are not finite are null: settings,
// corpora, sites, weights, arms with corpora[] and, by site and weight, error, median_error and underflow.

const data = JSON.parse(document.getElementById("data").textContent);
const { settings, corpora, sites, arms } = data;
const active = arms.filter((arm) => arm.activations !== "none");
const parts = [...new Set(sites.map((site) => site.part))];
const state = { text: 0, part: Math.max(0, parts.indexOf((sites.find((site) => site.mlp_down) ?? sites[0]).part)) };

const wide = { showlegend: true, margin: { l: 62, r: 14, t: 14, b: 96 },
  legend: { orientation: "h", y: -0.3, font: { size: 11 } } };
const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "x"];

/** A number an arm with its interval, on its own row; the first arm on top. */
function ranked(own, estimateOf, colour, name) {
  const rows = own.map((arm) => ({ arm: arm.name, ...estimateOf(arm.corpora[state.text]) }));
  return { type: "scatter", mode: "markers", name, x: rows.map((row) => row.value), y: rows.map((row) => row.arm),
    marker: { color: css(colour), size: 8, symbol: name === "sink damage" ? "diamond-open" : "circle" },
    error_x: { type: "data", symmetric: false, color: css(colour), thickness: 1.5, width: 3,
      array: rows.map((row) => (finite(row.high) && finite(row.value) ? row.high - row.value : 0)),
      arrayminus: rows.map((row) => (finite(row.low) && finite(row.value) ? row.value - row.low : 0)) },
    hovertemplate: `%{y}<br>${name} %{x:.4~g} nats<extra></extra>` };
}

function drawDamage(panel) {
  const own = panel.arms, traces = [ranked(own, (c) => c.loss_difference, "--arm0", "damage")];
  if (own[0].activations !== "none") traces.push(ranked(own, (c) => c.sink_damage, "--arm1", "sink damage"));
  panel.about.textContent = `${corpora[state.text].name} · f32 ${corpora[state.text].recalled === null
    ? `perplexity ${corpora[state.text].perplexity}` : `loss ${corpora[state.text].loss}`} · ${
    Math.round(1e4 * settings.confidence) / 100} % intervals`;
  const values = traces.flatMap((trace) => trace.x.flatMap((x, i) =>
    [x, x + trace.error_x.array[i], x - trace.error_x.arrayminus[i]]));
  render(panel.plot, traces, { ...wide, height: 150 + 26 * own.length, margin: { ...wide.margin, l: 150 },
    xaxis: linearAxis([...values, 0], "nats more than f32"),
    yaxis: { type: "category", categoryorder: "array", categoryarray: own.map((arm) => arm.name).reverse(), automargin: true } });
}

/** The sites of the chosen product, by layer. */
const chosen = () => sites.map((site, index) => ({ ...site, index })).filter((site) => site.part === parts[state.part]);

function byLayer(name, own, y, k) {
  return { type: "scatter", mode: "lines+markers", name, x: own.map((site) => site.layer), y, connectgaps: false,
    line: { color: css(`--arm${k}`), width: 1.8 }, marker: { color: css(`--arm${k}`), size: 6, symbol: symbols[k % symbols.length] },
    hovertemplate: `<b>${escapeHtml(name)}</b><br>layer %{x}<br>%{customdata:.4~g}<extra></extra>` };
}

function drawDispersion(panel) {
  const own = chosen(), traces = corpora.map((corpus, c) =>
    byLayer(corpus.name, own, own.map((site) => site.dispersion[c]), c));
  panel.about.textContent = `${parts[state.part]} · max |x| over a token's usual max |x|`;
  render(panel.plot, traces, { ...wide, xaxis: { title: { text: "layer" } },
    yaxis: logAxis(traces, traces.flatMap((trace) => trace.y), "row dispersion"), height: 340 });
}

function drawOfArms(panel) {
  const own = chosen(), traces = active.map((arm, k) =>
    byLayer(arm.name, own, own.map((site) => arm.sites[panel.key][site.index]), k))
    .filter((trace) => trace.y.some(finite));
  for (const trace of traces) trace.customdata = trace.y;
  panel.about.textContent = `${parts[state.part]} · first text`;
  const yaxis = panel.key === "underflow" ? { title: { text: "share rounded to zero" }, range: [-0.03, 1.03] }
    : logAxis(traces, traces.flatMap((trace) => trace.y), "error of the median token");
  render(panel.plot, traces, { ...wide, xaxis: { title: { text: "layer" } }, yaxis, height: 380 });
}

const split = (title, own) => (own.length ? [{ draw: drawDamage, title, arms: own, wide: 6 }] : []);
const figures = {
  damage: () => [...split("Weights and activations", active),
    ...split("Weights alone", arms.filter((arm) => arm.activations === "none"))],
  layers: () => [{ draw: drawDispersion, title: "Row dispersion", wide: 6 },
    ...(active.length ? [{ draw: drawOfArms, title: "Error", key: "median_error", wide: 3 },
      { draw: drawOfArms, title: "Underflow", key: "underflow", wide: 3 }] : [])],
};

function start() {
  const panels = buildPanels(figures);
  const drawAll = () => panels.forEach((panel) => panel.draw(panel));
  const text = document.getElementById("text"), part = document.getElementById("part");
  corpora.forEach((corpus, c) => text.add(new Option(corpus.name, c)));
  parts.forEach((name, p) => part.add(new Option(name, p)));
  part.value = state.part;
  for (const [choice, key] of [[text, "text"], [part, "part"]])
    choice.addEventListener("change", () => {
      state[key] = Number(choice.value);
      drawAll();
    });
  document.getElementById("controls").hidden = false;
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

begin(start);
