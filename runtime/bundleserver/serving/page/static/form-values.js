// The texts of fields as JSON. Values stay text all the way, so that no digit of a number is lost:
// JavaScript's own numbers have 53 bits.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
  // Characters that change how a line looks, and would hide what is sent.
  const INVISIBLE =
    /[\u007f-\u00a0\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff0-\uffff]/g;

  // What is wrong with one field, for its message and its focus.
  form.FieldError = class FieldError extends Error {
    constructor(message, place) {
      super(message);
      this.place = place;
    }
  };

  const escaped = (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0");

  // A string as JSON in which every character can be seen.
  form.quoted = (text) => JSON.stringify(text).replace(INVISIBLE, escaped);

  // A name or a message of others as it may be shown: what cannot be seen is escaped.
  form.visible = (text) =>
    String(text)
      .replace(/[\u0000-\u001f]/g, (one) => (one === "\n" ? "\n" : escaped(one)))
      .replace(INVISIBLE, escaped);

  form.isNumber = (token) => NUMBER.test(token);

  // One field's text as a JSON token; undefined where an optional field is empty. What is missing
  // has null as its text. Throws FieldError; place is [row, input, field].
  form.token = (field, text, place) => {
    const fail = (why) => {
      throw new form.FieldError(`${describe(field, place)}: ${why}`, place);
    };
    if (text === null) return "null";
    if (field.kind === "string" && !(text === "" && field.optional)) return form.quoted(text);
    const bare = text.trim();
    if (bare === "") {
      if (field.optional) return undefined;
      if (field.nullable) return "null";
      fail(`it is empty; enter ${expected(field)}`);
    }
    if (field.kind === "json") {
      try {
        JSON.parse(bare);
      } catch (error) {
        fail(`this is not valid JSON (${error.message}); a missing number is null`);
      }
      return bare;
    }
    if (bare.toLowerCase() === "nan" && field.kind !== "boolean") return "null";
    if (NUMBER.test(bare) && field.kind !== "boolean") return bare;
    // Tables have booleans among numbers.
    if (bare === "true" || bare === "false") return bare;
    if (field.kind === "any") return anyToken(bare, text);
    return fail(`'${shorten(text)}' is not a valid value; enter ${expected(field)}`);
  };

  // A string that looks like something else stands in quotes.
  const anyToken = (bare, text) => {
    if (bare === "null") return bare;
    try {
      if (bare[0] === '"') return form.quoted(JSON.parse(bare));
    } catch {
      // It has a quote in front, and is no JSON.
    }
    return form.quoted(text);
  };

  // The lines of a list as tokens; undefined where an optional list is empty.
  form.tokens = (field, text, place) => {
    // Numbers may also stand beside each other, as a table's row does.
    const by = field.kind === "string" ? /\n/ : /[\n,;]|[ \t]+/;
    const lines = (text || "").split(by).map((line) => line.trim()).filter((line) => line !== "");
    if (!lines.length && field.optional) return undefined;
    if (!lines.length) form.token({ ...field, kind: "number", nullable: false }, "", place);
    return lines.map((line) => form.token(field, line, place));
  };

  // The sizes of a nested array, and whether all its parts have them.
  form.shapeOf = (value) => {
    if (!Array.isArray(value)) return [];
    const inner = value.map(form.shapeOf);
    if (inner.some((shape) => shape.join() !== inner[0].join())) {
      throw new Error("its arrays differ in length");
    }
    return [value.length, ...(inner[0] || [])];
  };

  // The datatype that V2 has for tokens whose datatype nobody declared.
  form.datatypeOf = (tokens) => {
    const known = tokens.filter((token) => token !== "null");
    if (known.length && known.every((token) => token === "true" || token === "false")) return "BOOL";
    if (!known.every(form.isNumber)) return "BYTES";
    const isWhole = known.length === tokens.length && known.every((each) => /^-?\d+$/.test(each));
    return isWhole ? "INT64" : "FP64";
  };

  const shorten = (text) => (text.length > 60 ? text.slice(0, 57) + "…" : text);

  const describe = (field, [row, , , count]) =>
    (count > 1 ? `row ${row + 1}, ` : "") + `'${shorten(form.visible(field.name))}'`;

  const expected = (field) =>
    ({
      number: "a number such as -1.5 or 2e3, or NaN for a missing one",
      integer: "an integer such as 42",
      boolean: "true or false",
      string: "text",
      json: "a JSON value",
      any: "a value",
    })[field.kind];
})();
