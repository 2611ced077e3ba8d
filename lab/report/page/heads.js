// Draws the figures of a record weir.heads/1 in #data, whose numbers that are not finite are null: settings,
// loss, summary, layers with heads[] and similarities, curve.

const data = JSON.parse(document.getElementById("data").textContent);
const { settings, layers, curve, summary } = data;
const state = { layer: 0 };
const hasSimilarity = Boolean(layers[0].map_similarity);

const signed = (value) => (value === null ? "not a number" : `${value > 0 ? "+" : ""}${+value.toPrecision(3)}`);
const numbered = (count, most) => [...Array(count).keys()].filter((n) => n % Math.ceil(count / most) === 0);

function drawMap(panel) {
  const rows = layers.map((layer) => layer.heads.map((head) => head[panel.key].difference));
  const most = Math.max(...rows.flat().filter(finite).map(Math.abs), 1e-12);
  const text = rows.map((row, l) => row.map((value, h) => {
    const error = layers[l].heads[h][panel.key].standard_error;
    return `layer ${layers[l].layer}, head ${h}<br>${signed(value)} nats${finite(error) ? ` (± ${+error.toPrecision(2)})` : ""}`;
  }));
  panel.about.textContent = "nats more than the unchanged model";
  render(panel.plot, [{ type: "heatmap", name: panel.title, z: rows, text, hoverinfo: "text", zmin: -most, zmax: most, colorscale: "RdBu",
    xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0 } }],
  { height: Math.max(260, 110 + 15 * rows.length),
    xaxis: { title: { text: "head" }, tickvals: numbered(rows[0].length, 12), showgrid: false },
    yaxis: { title: { text: "layer" }, tickvals: numbered(rows.length, 15), showgrid: false } });
}

function drawCurve(panel) {
  const x = [0, ...curve.map((step) => step.removed)], y = [data.loss, ...curve.map((step) => step.loss)];
  const text = ["all heads", ...curve.map((step) => `without ${step.layer}.${step.head}`)];
  const limit = data.loss * (1 + summary.removable_share);
  panel.about.textContent = `${settings.prune_by} ablation · ${summary.removable_heads} below the dotted line`;
  render(panel.plot, [
    { type: "scatter", mode: "lines+markers", name: "loss", x, y, text, line: { color: css("--arm0"), width: 1.8 },
      marker: { color: css("--arm0"), size: 5 }, hovertemplate: "%{x} removed<br>%{text}<br>%{y:.4f} nats<extra></extra>" },
    { type: "scatter", mode: "lines", name: `${+(100 * summary.removable_share).toPrecision(3)} % more`, x: [0, x[x.length - 1]], y: [limit, limit],
      line: { color: css("--arm1"), width: 1.2, dash: "dot" }, hoverinfo: "skip" }],
  { height: 360, showlegend: true, legend: { orientation: "h", y: -0.25, font: { size: 11 } }, margin: { l: 62, r: 14, t: 14, b: 80 },
    xaxis: linearAxis(x, "heads removed"), yaxis: linearAxis([...y, limit], "loss, nats a target") });
}

function drawSimilarity(panel) {
  const layer = layers[state.layer], rows = layer[panel.key];
  const text = rows.map((row, h) => row.map((value, g) => `heads ${h} and ${g}<br>${value === null ? "no cosine" : +value.toPrecision(3)}`));
  panel.about.textContent = `layer ${layer.layer} · cosine`;
  render(panel.plot, [{ type: "heatmap", name: panel.title, z: rows, text, hoverinfo: "text", zmin: -1, zmax: 1, colorscale: "RdBu",
    xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0 } }],
  { height: 340, xaxis: { title: { text: "head" }, tickvals: numbered(rows.length, 12), showgrid: false },
    yaxis: { title: { text: "head" }, tickvals: numbered(rows.length, 12), showgrid: false } });
}

const figures = {
  redundancy: () => settings.ablations.map((key) =>
    ({ draw: drawMap, title: `Change of the loss, ${key} ablation`, key, wide: settings.ablations.length === 1 ? 6 : 3 })),
  pruning: () => (curve.length ? [{ draw: drawCurve, title: "Loss by heads removed", wide: 6 }] : []),
  similarity: () => (hasSimilarity ? [{ draw: drawSimilarity, title: "Maps", key: "map_similarity", wide: 3 },
    { draw: drawSimilarity, title: "Outputs", key: "output_similarity", wide: 3 }] : []),
};

function start() {
  const panels = buildPanels(figures);
  document.getElementById("similarity").hidden = !hasSimilarity;
  const drawAll = () => panels.forEach((panel) => panel.draw(panel));
  const layer = document.getElementById("layer");
  layers.forEach((one, l) => layer.add(new Option(`layer ${one.layer}`, l)));
  layer.addEventListener("change", () => {
    state.layer = Number(layer.value);
    drawAll();
  });
  document.getElementById("layer-control").hidden = layers.length === 1 || !hasSimilarity;
  document.getElementById("controls").hidden = false;
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

begin(start);
