// The plots of a model's last minutes, drawn with uPlot.
"use strict";

(() => {
  const place = document.getElementById("plots");
  if (!place || !window.uPlot) return;

  const HEIGHT = 150;
  const charts = new Map();
  const milliseconds = (values) => values.map((v) => (v === null ? null : v * 1000));
  const PLOTS = {
    requests: [{ label: "requests/s", of: (d) => d.requests, colour: "--plot" }],
    latency: [
      { label: "p50", of: (d) => milliseconds(d.p50), colour: "--plot" },
      { label: "p99", of: (d) => milliseconds(d.p99), colour: "--plot-2" },
    ],
    failed: [
      { label: "failed", of: (d) => d.failed, colour: "--bad" },
      { label: "not valid", of: (d) => d.refused, colour: "--plot" },
    ],
  };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => (value == null ? "–" : String(Number(value.toPrecision(3))));

  // In UTC, as every other time of the page.
  const clock = (seconds, until) => new Date(seconds * 1000).toISOString().slice(11, until);

  function axis(more) {
    return {
      stroke: colour("--quiet"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1 },
      font: "11px system-ui, sans-serif",
      ...more,
    };
  }

  function options(lines, width) {
    return {
      width,
      height: HEIGHT,
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [axis({ space: 60, size: 32, values: (_, ticks) => ticks.map((t) => clock(t, 16)) }), axis({ size: 48, values: (_, ticks) => ticks.map(short) })],
      series: [
        { label: "at", value: (_, at) => (at == null ? "–" : clock(at, 19)) },
        ...lines.map((line) => ({
          label: line.label,
          stroke: colour(line.colour),
          width: 1.5,
          // A minute without requests has no latency: its neighbours stand alone, as points.
          points: { show: lines === PLOTS.latency, size: 4 },
          value: (_, value) => short(value),
        })),
      ],
    };
  }

  function draw(data) {
    place.hidden = false;
    for (const [name, lines] of Object.entries(PLOTS)) {
      const box = place.querySelector(`[data-plot="${name}"]`);
      const values = [data.times, ...lines.map((line) => line.of(data))];
      const chart = charts.get(name);
      if (chart) chart.setData(values);
      else charts.set(name, new uPlot(options(lines, box.clientWidth), values, box));
    }
  }

  function drawAnew() {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    load();
  }

  async function load() {
    try {
      const answer = await fetch(place.dataset.source, {
        headers: window.bundleserverPage.headers({}),
        credentials: "omit",
        signal: window.bundleserverPage.deadline(),
      });
      if (answer.ok) draw((await answer.json()).plots);
    } catch {
      // The page says that the server does not answer.
    }
  }

  new ResizeObserver(() => {
    for (const [name, chart] of charts) {
      const width = place.querySelector(`[data-plot="${name}"]`).clientWidth;
      if (width && width !== chart.width) chart.setSize({ width, height: HEIGHT });
    }
  }).observe(place);

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
  document.addEventListener("page-refreshed", load);
  document.addEventListener("DOMContentLoaded", load);
})();
