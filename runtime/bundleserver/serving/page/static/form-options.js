// What may be chosen beside the values of a row: versions, protocol, parameters, outputs, raw JSON.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const { element } = form;

  // The version, the one that it is compared with, the protocol, and fields or JSON.
  form.choicesView = (self) => {
    const { spec } = self;
    const box = element("div", { class: "form-choices" });
    const chosen = (value) => {
      self.version = value;
      // The list is another one then; whoever uses the keyboard goes on from there.
      self.load().then(() => self.place.querySelector("select")?.focus());
    };
    const byTraffic = ["", `by default (${spec.default || "none"})`];
    const own = spec.versions.map((version) => [version, version]);
    const named = Object.entries(spec.labels).map(([label, of]) => [label, `${label} (${of})`]);
    const among = (first, value) => {
      const listed = [first, ...own, ...named];
      // A link may name a version that has gone.
      return listed.some(([each]) => each === value) ? listed : [...listed, [value, value]];
    };
    box.append(form.select("Version", among(byTraffic, self.version), self.version, chosen));
    if (spec.versions.length > 1 || self.other) {
      const others = among(["", "nothing"], self.other);
      box.append(
        form.select("Compare with", others, self.other, (value) => {
          self.other = value;
          self.changed();
        }),
      );
    }
    const protocols = [["v1", "V1"], ["v2", "V2"]];
    const modes = [["fields", "Fields"], ["json", "JSON"]];
    box.append(
      form.radios("Protocol", "protocol", protocols, self.protocol, (value) => {
        self.protocol = value;
        self.drawInputs();
      }),
      form.radios("Input", "mode", modes, self.mode, (value) => self.choose(value)),
    );
    return box;
  };

  // The body as text, for what no field can express.
  form.jsonView = (self) => {
    const area = element("textarea", { rows: 12, spellcheck: false, class: "form-raw" });
    area.dataset.name = "raw";
    area.setAttribute("aria-label", "the body of the request");
    const fill = () => {
      try {
        area.value = self.bodyOfFields();
      } catch (error) {
        area.value = self.protocol === "v1" ? '{"instances": []}' : '{"inputs": []}';
        self.unfilled = error;
      }
    };
    // What the user wrote is kept, whatever else is chosen.
    if (self.raw === null) fill();
    else area.value = self.raw;
    area.addEventListener("input", () => {
      self.raw = area.value;
      self.changed();
    });
    self.area = area;
    const again = form.button("Fill from the fields", () => {
      self.raw = null;
      fill();
      self.changed();
      self.tellUnfilled();
    });
    return element("div", { class: "form-field form-wide" }, area, again);
  };

  // Parameters, and the outputs that V2 may choose.
  form.optionsView = (self) => {
    const parts = [];
    const grid = element("div", { class: "form-grid" });
    if (self.spec.parameters.length) parts.push(grid);
    for (const name of self.spec.parameters) {
      const input = element("input", { type: "text", autocomplete: "off" });
      input.value = self.parameters.get(name) || "";
      if (name === "level") input.placeholder = "0.95";
      if (name === "history_start") input.placeholder = "2026-01-31";
      input.addEventListener("input", () => {
        self.parameters.set(name, input.value);
        self.changed();
      });
      const kind = element("span", { class: "form-kind" }, "parameter, optional");
      grid.append(element("label", { class: "form-pick" }, form.visible(name), " ", kind, input));
    }
    const names = [...new Set([...self.spec.outputs, ...self.spec.methods])];
    if (self.protocol === "v2" && names.length > 1) {
      const box = element("fieldset", { class: "form-choice" });
      box.append(element("legend", {}, "Outputs (all of the model's own where none is chosen)"));
      for (const name of names) {
        const input = element("input", { type: "checkbox", checked: self.outputs.has(name) });
        input.addEventListener("change", () => {
          if (input.checked) self.outputs.add(name);
          else self.outputs.delete(name);
          self.changed();
        });
        box.append(element("label", {}, input, " ", form.visible(name)));
      }
      parts.push(box);
    }
    return parts;
  };
})();
