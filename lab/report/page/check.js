// Draws the tightness of bounds from the numbers in #data:
//   figures: of each bound {key, name, left, right, labels: of the sites, median and largest: [site][head]}
const data = JSON.parse(document.getElementById("data").textContent);
let which = "median";

function drawTightness(panel) {
  const { figure } = panel, rows = figure[which], heads = Math.max(...rows.map((row) => row.length));
  const text = rows.map((row, l) => row.map((value, h) =>
    `${escapeHtml(figure.labels[l])}${heads > 1 ? `, head ${h}` : ""}<br>${value === null ? "not a number" : +value.toPrecision(3)}`));
  render(panel.plot, [{ type: "heatmap", z: rows, text, hoverinfo: "text", zmin: 0, zmax: 1,
    colorscale: "Cividis", xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0 } }],
  { height: Math.max(220, 90 + 15 * rows.length),
    xaxis: { title: { text: "head" }, dtick: Math.ceil(heads / 16), showgrid: false },
    yaxis: { title: { text: "site" }, dtick: rows.length > 8 ? Math.ceil(rows.length / 15) : 1, showgrid: false } });
}

function start() {
  const place = document.querySelector("#tightness .panels");
  const panels = data.figures.map((figure) => {
    const panel = { figure }, box = element("div", "panel span2", place);
    element("h4", "", box).textContent = figure.name;
    element("span", "about", element("div", "key", box)).textContent = `${figure.left} ≤ ${figure.right}`;
    panel.plot = element("div", "plot", box);
    return panel;
  });
  const drawAll = () => panels.forEach(drawTightness);
  const choice = document.getElementById("which");
  choice.addEventListener("change", () => {
    which = choice.value;
    drawAll();
  });
  document.getElementById("controls").hidden = false;
  drawAll();
  buildSaving();
  followPrinting(drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

begin(start);
