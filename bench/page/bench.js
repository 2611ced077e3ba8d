// Draws a benchmark's page from #data: profiles {setting: weir.profile/1}, peaks: a list of rounds, each
// a list of {threads, operations_per_second, bytes_per_second}.

const data = JSON.parse(document.getElementById("data").textContent);
const schedules = [...new Set(Object.values(data.profiles ?? {})
  .flatMap((profile) => profile.kernels.map((kernel) => kernel.schedule)))].sort();
const colourOf = (schedule) => css(`--arm${schedules.indexOf(schedule) % 8}`);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function rate(key, threads) {
  return median((data.peaks ?? []).flat().filter((p) => p.threads === threads).map((p) => p[key]));
}

function panel(section, title, wide) {
  const made = element("div", `panel span${wide}`, document.querySelector(`#${section} .panels`));
  element("h4", "", made).textContent = title;
  return element("div", "plot", made);
}

const tip = (kernel) => `<b>${kernel.schedule}</b> ${escapeHtml(kernel.shape)}<br>${
  escapeHtml(kernel.makes)}<br>${percent(kernel.share_of_time)} of the time, ${kernel.runs} runs, ${
  percent(kernel.share_of_peak)} of the peak, ${(kernel.bytes_per_second / 1e9).toFixed(1)} GB/s`;

function roofline(setting, profile) {
  const plot = panel("roofline", `${setting}, ${profile.threads} threads`, 3);
  const peak = rate("operations_per_second", profile.threads) ?? profile.peak_operations_per_second;
  const bandwidth = rate("bytes_per_second", profile.threads);
  const kernels = profile.kernels.filter((k) => k.operations > 0 && k.bytes > 0);
  const intensity = (kernel) => kernel.operations / kernel.bytes;
  const traces = schedules.map((schedule) => {
    const own = kernels.filter((kernel) => kernel.schedule === schedule);
    return { type: "scatter", mode: "markers", name: schedule, x: own.map(intensity),
      y: own.map((k) => k.operations_per_second / 1e9), text: own.map(tip),
      hovertemplate: "%{text}<extra></extra>",
      marker: { color: colourOf(schedule), opacity: 0.8,
        size: own.map((k) => 6 + 60 * Math.sqrt(k.share_of_time) / 2) } };
  }).filter((trace) => trace.x.length);
  if (bandwidth) {
    const low = Math.min(...kernels.map(intensity), 0.1), high = Math.max(...kernels.map(intensity), 1000);
    const knee = peak / bandwidth;
    traces.unshift({ type: "scatter", mode: "lines", name: "limit", x: [low, knee, high],
      y: [low * bandwidth / 1e9, peak / 1e9, peak / 1e9], line: { color: css("--soft"), width: 1.5 },
      hovertemplate: `${(peak / 1e9).toFixed(0)} Gflop/s, ${(bandwidth / 1e9).toFixed(1)} GB/s<extra></extra>` });
  }
  render(plot, traces, { height: 420, showlegend: true, legend: { orientation: "h", y: -0.2 },
    xaxis: { type: "log", title: { text: "operations a byte" } },
    yaxis: { type: "log", title: { text: "Gflop/s" } } });
}

function timeByKernel(setting, profile) {
  const shown = profile.kernels.slice(0, 24).reverse();
  const plot = panel("kernels", `${setting}: ${(1e3 * profile.kernel_seconds).toFixed(1)} ms in kernels`, 3);
  const name = (kernel) => `${kernel.schedule} ${kernel.makes || kernel.shape}`.slice(0, 46);
  render(plot, [{ type: "bar", orientation: "h", y: shown.map((_, i) => i),
    x: shown.map((k) => 100 * k.share_of_time), text: shown.map(tip), textposition: "none",
    hovertemplate: "%{text}<extra></extra>", marker: { color: shown.map((k) => colourOf(k.schedule)) } }],
  { height: 60 + 20 * shown.length, margin: { l: 300, r: 14, t: 10, b: 40 },
    xaxis: { title: { text: "percent of the kernels' time" } },
    yaxis: { tickvals: shown.map((_, i) => i), ticktext: shown.map((k) => escapeHtml(name(k))), automargin: false } });
}

begin(() => {
  for (const [setting, profile] of Object.entries(data.profiles ?? {})) {
    roofline(setting, profile);
    timeByKernel(setting, profile);
  }
});
