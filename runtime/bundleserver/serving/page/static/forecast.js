// A forecast with its interval, drawn by uPlot after the series that the model was fitted on.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const { element } = form;
  const SHOWN_AT_LEAST = 60;

  // What a forecaster's answer has, as numbers; null where it is none.
  form.forecastOf = (columns) => {
    const named = new Map((columns || []).map((column) => [column.name, column.cells]));
    if (!named.has("mean")) return null;
    const numbers = (name) => (named.get(name) || []).map(numberOrNull);
    return {
      mean: numbers("mean"),
      lower: numbers("lower"),
      upper: numbers("upper"),
      ds: named.get("ds") || null,
    };
  };

  const numberOrNull = (cell) => {
    const number = form.number(cell);
    return Number.isFinite(number) ? number : null;
  };

  // A date without a zone is in the model's own time: it is drawn as it stands.
  const seconds = (date) => {
    const text = String(date);
    const hasZone = /[T ].*(Z|[+-]\d{2}(:?\d{2})?)$/.test(text);
    return Date.parse(hasZone ? text : `${text.length > 10 ? text : `${text}T00:00:00`}Z`) / 1000;
  };

  // A time as ISO 8601 has it, no finer than the distance of what stands beside it.
  const DAY = 86400;
  const isoDate = (ts, distance) => {
    const text = new Date(ts * 1000).toISOString();
    if (distance >= 28 * DAY) return text.slice(0, 7);
    return distance >= DAY ? text.slice(0, 10) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
  };

  // Merge history and forecast into uPlot's columns: x, history, mean, lower, upper.
  form.plotData = (history, forecast) => {
    const isDated = Boolean(forecast.ds && (!history.values.length || history.ds));
    const points = new Map();
    const at = (x) => {
      if (!points.has(x)) points.set(x, [null, null, null, null]);
      return points.get(x);
    };
    const total = history.total || history.values.length;
    const first = total - history.values.length;
    history.values.forEach((value, i) => {
      at(isDated ? seconds(history.ds[i]) : first + i)[0] = value;
    });
    forecast.mean.forEach((mean, i) => {
      const place = at(isDated ? seconds(forecast.ds[i]) : total + i);
      place[1] = mean;
      place[2] = forecast.lower[i] ?? null;
      place[3] = forecast.upper[i] ?? null;
    });
    const xs = [...points.keys()].filter(Number.isFinite).sort((a, b) => a - b);
    return { isDated, data: [xs, ...[0, 1, 2, 3].map((k) => xs.map((x) => points.get(x)[k]))] };
  };

  // Draw into an element; returns the plot, for destroy() and setSize().
  form.plotForecast = (place, history, forecast) => {
    const { isDated, data } = form.plotData(history, forecast);
    const style = getComputedStyle(place);
    const colour = (name, other) => style.getPropertyValue(name).trim() || other;
    const ink = style.color;
    const line = colour("--plot", "#2f6f9f");
    const band = /^#[0-9a-f]{6}$/i.test(line) ? `${line}40` : line;
    const grid = { stroke: colour("--line", "#88888844"), width: 1 };
    const axis = { stroke: colour("--quiet", ink), grid, ticks: grid };
    const dates = (plot, splits, at, space, distance) => splits.map((ts) => isoDate(ts, distance));
    const whole = (plot, ts) => (ts === null ? "–" : new Date(ts * 1000).toISOString().slice(0, 19));
    const options = {
      width: Math.max(240, place.clientWidth),
      height: 260,
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
      scales: { x: { time: isDated, ...range(data[0], forecast.mean.length) } },
      axes: [isDated ? { ...axis, space: 90, values: dates } : axis, { ...axis, size: 60 }],
      series: [
        isDated ? { label: "date", value: whole } : { label: "step" },
        { label: "history", stroke: ink, width: 1.5 },
        { label: "mean", stroke: line, width: 2, points: { show: data[0].length < 200 } },
        { label: "lower", stroke: line, width: 1, dash: [4, 4], points: { show: false } },
        { label: "upper", stroke: line, width: 1, dash: [4, 4], points: { show: false } },
      ],
      bands: [{ series: [4, 3], fill: band }],
    };
    const plot = new uPlot(options, data, place);
    place.plotted = data;
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", described(history, forecast));
    return plot;
  };

  // Show the forecast and as much of the end of the history as it has steps several times over.
  const range = (xs, steps) => {
    const shown = Math.max(SHOWN_AT_LEAST, 5 * steps) + steps;
    if (xs.length <= shown) return {};
    return { min: xs[xs.length - shown], max: xs[xs.length - 1] };
  };

  const described = (history, forecast) => {
    const { mean, ds } = forecast;
    const span = ds && ds.length ? ` from ${ds[0]} to ${ds[ds.length - 1]}` : "";
    const after = history.values.length ? `, after ${history.total} points of history` : "";
    return `Forecast of ${mean.length} steps${span}${after}; the values are in the table`;
  };

  // The plot with its note, under an answer; asks for the history that is drawn before it.
  form.forecastBlock = async (columns, historyUrl, own) => {
    const forecast = form.forecastOf(columns);
    if (!forecast || typeof uPlot === "undefined") return null;
    let history = own;
    if (!history) {
      try {
        history = await form.fetchJson(historyUrl);
      } catch (error) {
        history = { reason: error.message };
      }
    }
    const drawn = { values: history.values || [], ds: history.ds || null, total: history.total || 0 };
    if (forecast.ds && drawn.values.length && !drawn.ds) forecast.ds = null;
    const block = element("div", { class: "form-forecast" });
    const place = element("div", { class: "form-plot" });
    block.append(place);
    if (history.reason) block.append(element("p", { class: "form-note" }, history.reason));
    return { block, draw: () => form.plotForecast(place, drawn, forecast), place };
  };
})();
