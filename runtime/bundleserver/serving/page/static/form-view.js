// The fields of a form: for each row a group with a field for each column or input.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const { element } = form;
  const MOST_ROWS = 100;
  // What a choice has for null.
  const MISSING = "null";
  let lists = 0;

  // Fields for all rows. rows is changed as the user types; changed() is told.
  form.fieldsView = (spec, rows, changed) => {
    const box = element("div", { class: "form-rows" });
    const draw = () => {
      box.replaceChildren(...rows.map((row, r) => rowView(spec, rows, r, changed, draw)));
      if (spec.rowwise && spec.inputs.length && rows.length < MOST_ROWS) {
        const add = button("Add row", () => {
          // A copy, which is nearer to what is wanted than empty fields.
          rows.push(rows[rows.length - 1].map((texts) => [...texts]));
          draw();
          changed();
          box.querySelectorAll("fieldset")[rows.length - 1].querySelector("[data-place]").focus();
        });
        box.append(element("p", {}, add));
      }
    };
    draw();
    return box;
  };

  const button = (text, act) => {
    const made = element("button", { type: "button" }, text);
    made.addEventListener("click", act);
    return made;
  };

  const rowView = (spec, rows, r, changed, draw) => {
    const legend = element("legend", {}, spec.rowwise ? `Row ${r + 1}` : "Inputs");
    const grid = element("div", { class: "form-grid" });
    spec.inputs.forEach((input, i) =>
      input.fields.forEach((field, f) => {
        const place = [r, i, f];
        const control = controlOf(input, field, rows[r][i][f]);
        control.dataset.place = place.join("-");
        control.id = `field-${place.join("-")}`;
        control.dataset.name = JSON.stringify([r, input.name, field.name]);
        const missing = missingOf(input, field, rows[r][i][f], control);
        const isChoice = control.tagName === "SELECT";
        const kept = () => {
          const isMissing = missing ? missing.checked : isChoice && control.value === MISSING;
          rows[r][i][f] = isMissing ? null : control.value;
          control.removeAttribute("aria-invalid");
          changed();
        };
        if (missing) missing.dataset.name = `${control.dataset.name} missing`;
        for (const each of missing ? [control, missing] : [control]) {
          each.addEventListener("input", kept);
          each.addEventListener("change", kept);
        }
        grid.append(labelled(spec, input, field, control, missing));
      }),
    );
    const box = element("fieldset", {}, legend, grid);
    if (rows.length > 1) {
      const remove = button("Remove row", () => {
        rows.splice(r, 1);
        draw();
        changed();
      });
      remove.setAttribute("aria-label", `Remove row ${r + 1}`);
      box.append(remove);
    }
    return box;
  };

  // A checkbox for a text that is missing, which is not the same as an empty one; null where a
  // number has NaN, or a choice has it, or nothing can be missing.
  const missingOf = (input, field, text, control) => {
    const isText = (field.kind === "string" || field.kind === "any") && input.layout !== "list";
    const may = field.nullable || text === null || input.layout === "columns";
    if (!isText || !may) return null;
    const box = element("input", { type: "checkbox", checked: text === null });
    const follow = () => {
      control.disabled = box.checked;
      control.placeholder = box.checked ? "missing" : "";
      if (box.checked) control.value = "";
    };
    follow();
    box.addEventListener("input", follow);
    return box;
  };

  const labelled = (spec, input, field, control, missing) => {
    const label = element("label", { for: control.id, class: "form-label" }, form.visible(field.name), " ");
    label.append(element("span", { class: "form-kind" }, kindOf(spec, input, field)));
    const wide = control.tagName === "TEXTAREA" ? "form-field form-wide" : "form-field";
    const box = element("div", { class: wide }, label, control);
    if (control.list_) box.append(control.list_);
    if (missing) {
      missing.setAttribute("aria-label", `${form.visible(field.name)} is missing`);
      box.append(element("label", { class: "form-kind" }, missing, " missing"));
    }
    return box;
  };

  // What stands beside a field's name: datatype and shape, in words where there is no type.
  const kindOf = (spec, input, field) => {
    // A forecast is asked for by one of the two.
    const pair = ["horizon", "ds"];
    const hasBoth = spec.forecast && pair.every((name) => spec.inputs.some((i) => i.name === name));
    const other = hasBoth && pair.includes(input.name) ? pair[1 - pair.indexOf(input.name)] : "";
    const words = [field.datatype || "any type"];
    const sizes = (input.shape || []).slice(1).map((size) => (size < 0 ? "n" : size));
    if (input.layout === "json") {
      words.push(input.shape ? `array [${sizes.join(", ")}] as JSON` : "as JSON");
    }
    if (input.layout === "list") words.push(input.name === "ds" ? "dates, one a line" : "one a line");
    if (other) words.push(`or else '${other}'`);
    else if (field.optional) words.push("optional");
    return words.join(", ");
  };

  const controlOf = (input, field, kept) => {
    const isNumber = field.kind === "number" || field.kind === "integer";
    const text = kept === null ? (isNumber ? "NaN" : "") : kept;
    if (field.kind === "boolean" && input.layout !== "list") {
      const made = element("select");
      const mayMiss = field.nullable || kept === null || input.layout === "columns";
      const mayBeEmpty = field.optional || !["true", "false", null].includes(kept);
      for (const choice of ["true", "false"]) made.append(element("option", { value: choice }, choice));
      if (mayBeEmpty) made.prepend(element("option", { value: "" }, "–"));
      if (mayMiss) made.append(element("option", { value: MISSING }, "missing"));
      made.value = kept === null ? MISSING : text;
      return made;
    }
    if (field.kind === "json" || input.layout === "list" || text.includes("\n")) {
      const lines = Math.min(12, Math.max(3, text.split("\n").length));
      const made = element("textarea", { rows: lines, spellcheck: false });
      if (input.name === "ds") made.placeholder = "2026-01-31\n2026-02-28";
      made.value = text;
      return made;
    }
    const made = element("input", { type: "text", autocomplete: "off", spellcheck: false });
    // Not type="number", which hides what is not a number instead of keeping it.
    if (field.kind === "number") made.inputMode = "text";
    if (field.kind === "integer") made.inputMode = "numeric";
    if (field.choices.length) {
      lists += 1;
      const list = element("datalist", { id: `choices-${lists}` });
      for (const choice of field.choices) list.append(element("option", { value: choice }));
      made.setAttribute("list", list.id);
      made.list_ = list;
    }
    made.value = text;
    return made;
  };

  // Show which field an error is about.
  form.markField = (box, place) => {
    const control = place && box.querySelector(`[data-place="${place.slice(0, 3).join("-")}"]`);
    if (!control) return;
    control.setAttribute("aria-invalid", "true");
    control.focus();
  };

  // A choice among a few, as radio buttons.
  form.radios = (legend, name, choices, chosen, changed) => {
    const box = element("fieldset", { class: "form-choice" }, element("legend", {}, legend));
    for (const [value, text] of choices) {
      const input = element("input", { type: "radio", name, value, checked: value === chosen });
      input.dataset.name = `${name} ${value}`;
      input.addEventListener("change", () => changed(value));
      box.append(element("label", {}, input, " ", text));
    }
    return box;
  };

  form.select = (label, choices, chosen, changed) => {
    const made = element("select");
    for (const [value, text] of choices) {
      made.append(element("option", { value }, form.visible(text)));
    }
    made.value = chosen;
    made.dataset.name = label;
    made.addEventListener("change", () => changed(made.value));
    return element("label", { class: "form-pick" }, label, " ", made);
  };
  form.button = button;
})();
