// The bodies of V1 and V2 requests, as text, from the form of a version and the texts of its fields.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const object = (pairs) => "{" + pairs.map(([k, v]) => `${form.quoted(k)}: ${v}`).join(", ") + "}";
  const array = (tokens) => "[" + tokens.join(", ") + "]";

  // rows: for each row, for each input, a text for each field.
  // options: {parameters: [[name, token]], outputs: [name]}; V1 has no outputs.
  form.bodyV1 = (spec, rows, options) => {
    const instances = rows.map((row, at) => instance(spec, row, at, rows.length));
    const pairs = [["instances", array(instances)]];
    if (options.parameters.length) pairs.push(["parameters", object(options.parameters)]);
    return object(pairs);
  };

  form.bodyV2 = (spec, rows, options) => {
    const tensors = spec.inputs.flatMap((input, at) =>
      spec.rowwise ? tensorsOfRows(input, at, rows) : tensorsOfWhole(input, at, rows[0]),
    );
    const pairs = [["inputs", array(tensors)]];
    if (options.outputs.length) {
      pairs.push(["outputs", array(options.outputs.map((name) => object([["name", form.quoted(name)]])))]);
    }
    if (options.parameters.length) pairs.push(["parameters", object(options.parameters)]);
    return object(pairs);
  };

  const instance = (spec, row, at, count) => {
    const values = spec.inputs.map((input, i) => [input.name, value(input, row[i], [at, i], count)]);
    if (spec.rowwise && values.length === 1) {
      return values[0][1] === undefined ? "{}" : values[0][1];
    }
    return object(values.filter(([, token]) => token !== undefined));
  };

  // One input's value in a row; undefined where it is optional and empty.
  const value = (input, texts, [row, at], count) => {
    if (input.layout === "list") {
      const listed = form.tokens(input.fields[0], texts[0], [row, at, 0, count]);
      return listed && array(listed);
    }
    const tokens = tokensOf(input, texts, row, at, count);
    if (input.optional && tokens.every((token) => token === undefined)) return undefined;
    if (input.layout === "columns") {
      const pairs = input.fields.map((field, i) => [field.name, tokens[i]]);
      return object(pairs.filter(([, token]) => token !== undefined));
    }
    if (input.layout === "values") return array(tokens.map((token) => token || "null"));
    return tokens[0];
  };

  const tokensOf = (input, texts, row, at, count) =>
    input.fields.map((field, i) => form.token(field, texts[i], [row, at, i, count]));

  const tensor = (name, datatype, shape, data) =>
    object([
      ["name", form.quoted(name)],
      ["datatype", form.quoted(datatype)],
      ["shape", array(shape)],
      ["data", array(data)],
    ]);

  const tensorsOfRows = (input, at, rows) => {
    const table = rows.map((row, r) => tokensOf(input, row[at], r, at, rows.length));
    if (input.layout === "json") return tensorsOfJson(input, at, table.map(([token]) => token));
    const columns = input.fields.map((field, i) => {
      const tokens = table.map((row) => row[i]);
      const lacks = tokens.every((token) => token === undefined);
      const filled = tokens.map((token) => (token === undefined ? "null" : token));
      return { field, lacks, tokens: filled, datatype: field.datatype };
    });
    if (input.optional && columns.every((column) => column.lacks)) return [];
    for (const column of columns) {
      if (column.field.kind === "any") column.datatype = form.datatypeOf(column.tokens);
    }
    const kinds = new Set(columns.map((column) => column.datatype));
    const isSplit = input.split || kinds.size > 1 || columns.some((column) => column.lacks);
    if (input.layout === "columns" && isSplit) {
      return columns
        .filter((column) => !column.lacks)
        .map((column) => tensor(column.field.name, column.datatype, [rows.length], column.tokens));
    }
    const isFlat = input.layout === "value";
    const shape = isFlat ? [rows.length] : [rows.length, columns.length];
    const data = rows.flatMap((_, r) => columns.map((column) => column.tokens[r]));
    const datatype = kinds.size === 1 ? columns[0].datatype : form.datatypeOf(data);
    return [tensor(input.name, datatype, shape, data)];
  };

  const tensorsOfJson = (input, at, tokens) => {
    if (input.split) {
      const why = "its columns differ in datatype and are too many for fields";
      const what = `'${form.visible(input.name)}': ${why}; use V1, or write V2's body as JSON`;
      throw new form.FieldError(what, [0, at, 0]);
    }
    if (tokens.every((token) => token === undefined)) return [];
    const text = array(tokens.map((token) => (token === undefined ? "null" : token)));
    try {
      const parsed = JSON.parse(text);
      const shape = form.shapeOf(parsed);
      const leaves = parsed.flat(Infinity).map((leaf) => JSON.stringify(leaf));
      const datatype = input.datatype || form.datatypeOf(leaves);
      return [tensor(input.name, datatype, shape, [text.slice(1, -1)])];
    } catch (error) {
      throw new form.FieldError(`'${form.visible(input.name)}': ${error.message}`, [0, at, 0]);
    }
  };

  const tensorsOfWhole = (input, at, row) => {
    const field = input.fields[0];
    const place = [0, at, 0, 1];
    if (input.layout === "json") {
      const token = form.token(field, row[at][0], place);
      if (token === undefined) return [];
      const parsed = JSON.parse(token);
      const data = Array.isArray(parsed) ? token.slice(1, -1) : token;
      const leaves = [parsed].flat(Infinity).map((leaf) => JSON.stringify(leaf));
      const datatype = input.datatype || form.datatypeOf(leaves);
      return [tensor(input.name, datatype, form.shapeOf(parsed), [data])];
    }
    const isList = input.layout === "list";
    const tokens = isList
      ? form.tokens(field, row[at][0], place)
      : [form.token(field, row[at][0], place)];
    if (!tokens || tokens[0] === undefined) return [];
    const shape = isList ? [tokens.length] : (input.shape || []).map(() => 1);
    const datatype = field.kind === "any" ? form.datatypeOf(tokens) : field.datatype;
    return [tensor(input.name, datatype, shape, tokens)];
  };
})();
