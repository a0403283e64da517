// How the form follows the server: a version is published, or goes, while somebody types.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});

  // What the page's last refresh says of the versions; another text where anything changed.
  form.markOfPage = () => {
    const place = document.getElementById("form-mark");
    return place ? place.dataset.mark : "";
  };

  // The form of a version as it is now: {spec, notice}. Of a version that has gone the old one is
  // kept, with the versions that there are; without any answer its mark is empty.
  form.renewed = async (old, version, fetchSpec) => {
    try {
      const spec = await fetchSpec(version);
      return { spec, notice: whatDiffers(old, spec) };
    } catch (error) {
      const notice = error.message;
      if (!version) return { spec: { ...old, mark: "" }, notice };
      try {
        const { versions, labels, mark, default: byDefault } = await fetchSpec("");
        return { spec: { ...old, versions, labels, mark, default: byDefault }, notice };
      } catch {
        return { spec: { ...old, mark: "" }, notice };
      }
    }
  };

  // Whether two forms have the same fields and choices; suggestions do not count.
  form.isSameSignature = (a, b) => signature(a) === signature(b);

  const signature = ({ rowwise, inputs, outputs, methods, parameters, forecast }) =>
    JSON.stringify([rowwise, inputs, outputs, methods, parameters, forecast], (key, value) =>
      key === "choices" ? undefined : value,
    );

  const whatDiffers = (old, spec) => {
    if (form.isSameSignature(old, spec)) return "";
    const [before, now] = [fieldNames(old), fieldNames(spec)];
    const added = [...now].filter((name) => !before.has(name)).map((name) => `'${name}' is new`);
    const gone = [...before].filter((name) => !now.has(name)).map((name) => `'${name}' is gone`);
    const parts = [...added, ...gone];
    const some = parts.length > 5 ? [...parts.slice(0, 5), `${parts.length - 5} more differ`] : parts;
    const how = some.length ? `: ${some.join(", ")}` : "";
    return `Version ${spec.version}, which is asked now, differs in its signature${how}. What was typed stays where names are the same.`;
  };

  const fieldNames = (spec) =>
    new Set(spec.inputs.flatMap((input) => input.fields.map((field) => field.name)));

  const empty = (field) => (field.nullable ? null : "");

  // The rows of a form: what was typed for another version where names are the same.
  form.carriedOver = (before, rows, spec) => {
    const example = spec.rows.length ? spec.rows : [spec.inputs.map((i) => i.fields.map(empty))];
    if (!before || !rows.length) return example.map((row) => row.map((texts) => [...texts]));
    const key = (input, field) => JSON.stringify([input.name, field.name]);
    return rows.map((row) => {
      const typed = new Map();
      before.inputs.forEach((input, i) =>
        input.fields.forEach((field, f) => typed.set(key(input, field), row[i][f])),
      );
      return spec.inputs.map((input, i) =>
        input.fields.map((field, f) => {
          const name = key(input, field);
          return typed.has(name) ? typed.get(name) : example[0][i][f];
        }),
      );
    });
  };

  // Draw something anew; what has the focus in it gets it again, with the place in its text.
  form.keepingFocus = (box, draw) => {
    const active = document.activeElement;
    const name = box.contains(active) ? active.dataset.name : undefined;
    const { selectionStart, selectionEnd } = active;
    draw();
    if (name === undefined || active.isConnected) return;
    const again = [...box.querySelectorAll("[data-name]")].find((each) => each.dataset.name === name);
    if (!again) return;
    again.focus({ preventScroll: true });
    // Only what has a text has a place in it.
    if (typeof again.selectionStart === "number" && typeof selectionStart === "number") {
      again.setSelectionRange(selectionStart, selectionEnd);
    }
  };
})();
