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
      const known = field.kind === "any" ? null : field.datatype;
      return columnOf(field.name, known, table.map((row) => row[i]), input.layout === "columns");
    });
    if (input.optional && columns.every((column) => column.lacks)) return [];
    const kinds = new Set(columns.map((column) => column.datatype));
    const isSplit = input.split || kinds.size > 1 || columns.some((column) => column.lacks);
    if (input.layout === "columns" && isSplit) return columnTensors(columns, rows.length);
    const isFlat = input.layout === "value";
    const shape = isFlat ? [rows.length] : [rows.length, columns.length];
    const data = rows.flatMap((_, r) => columns.map((column) => column.tokens[r]));
    const datatype = kinds.size === 1 ? columns[0].datatype : form.datatypeOf(data);
    return [tensor(input.name, datatype, shape, data)];
  };

  // A column's tokens. Only a table may have booleans in the place of its numbers' column: V2 has
  // a datatype for them, and 1 and 0 beside numbers.
  const columnOf = (name, known, tokens, isTable) => {
    const lacks = tokens.every((token) => token === undefined);
    const filled = tokens.map((token) => (token === undefined ? "null" : token));
    const datatype = known || form.datatypeOf(filled);
    if (datatype === "BOOL" || datatype === "BYTES") return { name, lacks, datatype, tokens: filled };
    if (isTable && filled.every(isBoolean)) return { name, lacks, datatype: "BOOL", tokens: filled };
    return { name, lacks, datatype, tokens: filled.map(asNumber) };
  };

  const isBoolean = (token) => token === "true" || token === "false";
  const asNumber = (token) => (isBoolean(token) ? String(+(token === "true")) : token);

  const columnTensors = (columns, count) =>
    columns
      .filter((column) => !column.lacks)
      .map((column) => tensor(column.name, column.datatype, [count], column.tokens));

  // Rows of JSON, arrays or objects, as a tensor for each column.
  const tensorsOfColumns = (input, rows) => {
    const size = input.columns.length;
    const parts = rows.map((row) => {
      if (form.isJsonObject(row)) return input.columns.map(([name]) => (Object.hasOwn(row, name) ? row[name] : undefined));
      const what = Array.isArray(row) ? `an array of ${row.length} values` : form.jsonText(row);
      if (!Array.isArray(row) || row.length !== size) {
        throw new Error(`a row is ${what}; expected an array of ${size} values, or an object`);
      }
      return row;
    });
    const token = (value) => (value === undefined ? undefined : form.jsonText(value));
    const columns = input.columns.map(([name, datatype], c) =>
      columnOf(name, datatype, parts.map((row) => token(row[c])), true),
    );
    return columnTensors(columns, rows.length);
  };

  const tensorsOfJson = (input, at, tokens) => {
    if (tokens.every((token) => token === undefined)) return [];
    const text = array(tokens.map((token) => (token === undefined ? "null" : token)));
    try {
      const parsed = form.parseJson(text);
      if (input.split) return tensorsOfColumns(input, parsed);
      const shape = form.shapeOf(parsed);
      const leaves = parsed.flat(Infinity).map(form.jsonText);
      const datatype = input.datatype || form.datatypeOf(leaves);
      const isPlain = ["BOOL", "BYTES"].includes(datatype) || !leaves.some(isBoolean);
      const data = isPlain ? [text.slice(1, -1)] : leaves.map(asNumber);
      return [tensor(input.name, datatype, shape, data)];
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
      const parsed = form.parseJson(token);
      const data = Array.isArray(parsed) ? token.slice(1, -1) : token;
      const leaves = [parsed].flat(Infinity).map(form.jsonText);
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
