// JSON whose numbers keep all their digits, and the comparison of what is read.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  // A string, with the colon after it if it is a key; or a number.
  const TOKEN = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|-?\d[\d.eE+-]*/g;
  const DECIMAL = /^(-?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;

  // A number that JavaScript would write in other digits.
  form.Exact = class Exact {
    constructor(text) {
      this.text = text;
      this.value = Number(text);
    }
  };

  // Read JSON. Throws SyntaxError. Before JavaScript's own reader can round a number it is made a
  // string, and each string gets a letter in front that tells the two apart.
  form.parseJson = (text) => {
    JSON.parse(text);
    const told = text.replace(TOKEN, (found, string, colon) => {
      if (colon !== undefined) return found;
      return string === undefined ? `"n${found}"` : `"s${string.slice(1)}`;
    });
    return JSON.parse(told, (key, value) => {
      if (typeof value !== "string") return value;
      const rest = value.slice(1);
      if (value[0] === "s") return rest;
      return String(Number(rest)) === rest ? Number(rest) : new form.Exact(rest);
    });
  };

  const isExact = (value) => value instanceof form.Exact;
  form.isJsonNumber = (value) => typeof value === "number" || isExact(value);
  form.isJsonObject = (value) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && !isExact(value);

  // A value as JavaScript's number; NaN if it is none.
  form.number = (value) => (isExact(value) ? value.value : typeof value === "number" ? value : NaN);

  // A value as JSON, its numbers as they came.
  form.jsonText = (value) => {
    if (isExact(value)) return value.text;
    if (Array.isArray(value)) return `[${value.map(form.jsonText).join(",")}]`;
    if (!form.isJsonObject(value)) return JSON.stringify(value);
    const pairs = Object.entries(value);
    return `{${pairs.map(([key, of]) => `${form.quoted(key)}:${form.jsonText(of)}`).join(",")}}`;
  };

  // Whether two values are the same; 1 and 1.0 are, and 2^53 and 2^53 + 1 are not.
  form.isSame = (a, b) => {
    if (form.isJsonNumber(a) && form.isJsonNumber(b)) return decimal(a) === decimal(b);
    if (Array.isArray(a) && Array.isArray(b)) {
      return a.length === b.length && a.every((each, at) => form.isSame(each, b[at]));
    }
    if (!form.isJsonObject(a) || !form.isJsonObject(b)) return a === b;
    const keys = Object.keys(a);
    const isEqual = keys.length === Object.keys(b).length;
    return isEqual && keys.every((key) => Object.hasOwn(b, key) && form.isSame(a[key], b[key]));
  };

  // What one number is more than another, as text; integers to the last digit.
  form.difference = (a, b) => {
    const texts = [form.jsonText(a), form.jsonText(b)];
    const isWhole = texts.every((text) => /^-?\d+$/.test(text));
    const more = isWhole
      ? BigInt(texts[1]) - BigInt(texts[0])
      : Number((form.number(b) - form.number(a)).toPrecision(6));
    return (more > 0 ? "+" : "") + String(more);
  };

  // A number as sign, digits and exponent, which equal numbers have in common.
  const decimal = (number) => {
    const [, sign, whole, part = "", power = "0"] = DECIMAL.exec(form.jsonText(number));
    const digits = (whole + part).replace(/^0+/, "");
    if (!digits) return "0";
    const short = digits.replace(/0+$/, "");
    return `${sign}${short}e${Number(power) - part.length + digits.length - short.length}`;
  };
})();
