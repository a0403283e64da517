// The answers of two versions to one input, next to each other, with what differs marked.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const { element } = form;
  const MOST_LINES = 400;

  // answers: [answer, answer]; names: the two versions.
  form.comparison = (answers, names) => {
    const block = element("div", { class: "form-comparison" });
    answers.forEach((answer, at) => {
      const line = form.statusLine({ ...answer, version: "" });
      line.prepend(element("strong", {}, `Version ${names[at]}: `));
      block.append(line);
      const error = form.errorOf(answer);
      if (error) block.append(element("p", { class: "form-error", role: "alert" }, form.visible(error)));
    });
    const columns = answers.map((answer) =>
      answer.status < 400 && !answer.isCut ? form.columnsOf(answer.text) : null,
    );
    if (!columns[0] || !columns[1]) return block;
    const lines = linesOf(columns[0], columns[1]);
    const differing = lines.filter((line) => line.differs).length;
    const said = differing ? `${differing} of ${lines.length} values differ` : "All values are equal";
    block.append(element("p", { class: "form-verdict" }, `${said}.`), table(lines, names));
    return block;
  };

  // One line for each value: {output, row, cells: [a, b], differs, difference}.
  const linesOf = (left, right) => {
    const others = new Map(right.map((column) => [column.name, column]));
    const missing = { cells: [] };
    const pairs = left.map((column) => [column.name, column, others.get(column.name) || missing]);
    const known = new Set(left.map((column) => column.name));
    for (const column of right) {
      if (!known.has(column.name)) pairs.push([column.name, missing, column]);
    }
    return pairs.flatMap(([output, a, b]) => {
      const count = Math.max(a.cells.length, b.cells.length);
      return Array.from({ length: count }, (_, row) => line(output, row, a.cells[row], b.cells[row]));
    });
  };

  const line = (output, row, a, b) => {
    const texts = [a, b].map((cell) => (cell === undefined ? "–" : form.cellText(cell)));
    const differs = !form.isSame(a, b);
    const isNumeric = form.isJsonNumber(a) && form.isJsonNumber(b);
    const difference = differs && isNumeric ? form.difference(a, b) : "";
    return { output, row, texts, differs, difference };
  };

  const table = (lines, names) => {
    const heads = ["output", "row", `version ${names[0]}`, `version ${names[1]}`, "difference"];
    const head = element("tr");
    for (const name of heads) head.append(element("th", { scope: "col" }, name));
    const body = element("tbody");
    for (const each of lines.slice(0, MOST_LINES)) {
      const row = element("tr", each.differs ? { class: "form-differs" } : {});
      row.append(
        element("th", { scope: "row" }, form.visible(each.output)),
        element("td", {}, String(each.row + 1)),
        element("td", {}, form.cell(each.texts[0])),
        element("td", {}, form.cell(each.texts[1])),
        // A word or a number, since colour alone tells not everybody.
        element("td", {}, each.differs ? `≠ ${each.difference}`.trim() : "equal"),
      );
      body.append(row);
    }
    const made = element("table", {}, element("thead", {}, head), body);
    const isCut = lines.length > MOST_LINES;
    return form.withNote(made, isCut ? [`the first ${MOST_LINES} of ${lines.length} values`] : []);
  };
})();
