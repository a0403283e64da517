// An answer as columns (one for each output), as a table, and as the text that came.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const MOST_ROWS = 200;
  const MOST_COLUMNS = 50;
  const MOST_TEXT = 100000;
  const MOST_CELL = 200;

  // Make an element; children are elements or texts, never HTML.
  form.element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in made && typeof value !== "string") made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };
  const element = form.element;

  // A value as a cell shows it: all digits of a number, as the server wrote them.
  form.cellText = (cell) => {
    if (cell === null || cell === undefined) return "null";
    return typeof cell === "string" ? cell : form.jsonText(cell);
  };

  // The outputs of an answer: [{name, cells}], one cell for each row or step; null if it has none.
  form.columnsOf = (text) => {
    let document;
    try {
      document = form.parseJson(text);
    } catch {
      return null;
    }
    if (document && Array.isArray(document.outputs)) return document.outputs.map(ofTensor);
    if (document && Array.isArray(document.predictions)) return ofPredictions(document.predictions);
    return null;
  };

  const ofTensor = ({ name, shape, data }) => {
    const flat = Array.isArray(data) ? data.flat(Infinity) : [];
    const rows = shape && shape.length ? form.number(shape[0]) : flat.length;
    const width = rows ? flat.length / rows : 0;
    const part = (r) => (width === 1 ? flat[r] : flat.slice(r * width, (r + 1) * width));
    return { name: String(name), cells: Array.from({ length: rows }, (_, r) => part(r)) };
  };

  const ofPredictions = (predictions) => {
    if (!predictions.length || !predictions.every(form.isJsonObject)) {
      return [{ name: "predictions", cells: predictions }];
    }
    const names = [...new Set(predictions.flatMap((row) => Object.keys(row)))];
    const [only] = predictions;
    // A forecast: one object with a list for each output.
    if (predictions.length === 1 && names.every((name) => Array.isArray(only[name]))) {
      const lengths = new Set(names.map((name) => only[name].length));
      if (lengths.size === 1) return names.map((name) => ({ name, cells: only[name] }));
    }
    return names.map((name) => ({ name, cells: predictions.map((row) => row[name]) }));
  };

  // A table: a line for each row, a column for each output.
  form.tableOf = (columns) => {
    const shown = columns.slice(0, MOST_COLUMNS);
    const count = Math.max(0, ...columns.map((column) => column.cells.length));
    const head = element("tr", {}, element("th", { scope: "col" }, "row"));
    for (const column of shown) head.append(element("th", { scope: "col" }, form.visible(column.name)));
    const body = element("tbody");
    for (let r = 0; r < Math.min(count, MOST_ROWS); r += 1) {
      const line = element("tr", {}, element("th", { scope: "row" }, String(r + 1)));
      for (const column of shown) line.append(element("td", {}, form.cell(column.cells[r])));
      body.append(line);
    }
    const table = element("table", {}, element("thead", {}, head), body);
    return form.withNote(table, [
      ...(count > MOST_ROWS ? [`the first ${MOST_ROWS} of ${count} rows`] : []),
      ...(columns.length > MOST_COLUMNS
        ? [`the first ${MOST_COLUMNS} of ${columns.length} outputs`]
        : []),
    ]);
  };

  form.cell = (cell) => form.visible(shorten(form.cellText(cell), MOST_CELL));

  form.withNote = (table, notes) => {
    const box = element("div", { class: "form-scroll", tabindex: "0", role: "region" }, table);
    box.setAttribute("aria-label", "answer as a table");
    if (!notes.length) return box;
    return element("div", {}, box, element("p", { class: "form-note" }, `Shown: ${notes.join(", ")}.`));
  };

  // Status, time and version in one line.
  form.statusLine = (answer) => {
    const ok = answer.status < 400;
    const version = answer.version ? ` · version ${answer.version}` : "";
    const words = `${answer.status} ${answer.phrase} · ${answer.milliseconds.toFixed(1)} ms${version}`;
    return element("p", { class: ok ? "form-status" : "form-status form-failed" }, words);
  };

  // What the server told of an error; an empty string where the answer is none.
  form.errorOf = (answer) => {
    if (answer.status < 400) return "";
    try {
      const told = JSON.parse(answer.text).error;
      return typeof told === "string" ? told : answer.text;
    } catch {
      return answer.text;
    }
  };

  // Everything of one answer.
  form.answerBlock = (answer) => {
    const block = element("div", { class: "form-answer" }, form.statusLine(answer));
    const error = form.errorOf(answer);
    if (error) block.append(element("p", { class: "form-error", role: "alert" }, form.visible(shorten(error, 4000))));
    const columns = answer.status < 400 && !answer.isCut ? form.columnsOf(answer.text) : null;
    if (columns) block.append(form.tableOf(columns));
    const cut = answer.isCut ? " (its first 4 MiB; use curl for all of it)" : "";
    const headers = answer.headers.map(([name, value]) => `${name}: ${value}`).join("\n");
    block.append(
      folded(`Answer as it came${cut}`, shorten(answer.text, MOST_TEXT)),
      folded("Headers", headers),
    );
    return block;
  };

  const folded = (title, text) =>
    element("details", {}, element("summary", {}, title), element("pre", {}, form.visible(text)));

  const shorten = (text, most) =>
    text.length > most ? `${text.slice(0, most)}… and ${text.length - most} more characters` : text;
})();
