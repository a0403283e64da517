// The form that sends a prediction: what is chosen, what is sent, and what came.
(() => {
  "use strict";
  const form = window.predictionForm;
  const { element } = form;
  const ANY = { kind: "any", optional: true, datatype: null };

  class PredictionForm {
    constructor(section) {
      this.model = decodeURIComponent(section.dataset.model);
      this.root = new URL(section.dataset.root, document.baseURI).href;
      this.place = section.querySelector("[data-form-place]");
      this.version = "";
      this.other = "";
      this.protocol = "v1";
      this.mode = "fields";
      this.parameters = new Map();
      this.outputs = new Set();
      this.rows = [];
      this.notice = element("p", { class: "form-note form-notice", role: "status" });
      this.raw = null;
      this.running = null;
      this.unfilled = null;
      this.mark = "";
      this.isFollowing = false;
    }

    async start() {
      this.readLink();
      window.addEventListener("hashchange", () => {
        if (!this.readLink()) return;
        this.place.scrollIntoView({ block: "start" });
        this.load();
      });
      document.addEventListener("page-refreshed", () => this.follow());
      await this.load();
    }

    // #compare=1&with=2, as links from a canary or a mirrored version have it.
    readLink() {
      const asked = new URLSearchParams(location.hash.slice(1));
      if (!asked.get("compare") || !asked.get("with")) return false;
      this.version = asked.get("compare");
      this.other = asked.get("with");
      return true;
    }

    async load() {
      const mine = (this.loading = {});
      try {
        const spec = await this.fetchSpec(this.version);
        if (this.loading !== mine) return;
        this.mark = spec.mark;
        this.notice.textContent = "";
        this.rows = form.carriedOver(this.spec, this.rows, spec);
        // A form has no fields for what any input may be.
        if (!spec.inputs.length) this.mode = "json";
        this.spec = spec;
        this.draw();
      } catch (error) {
        if (this.loading !== mine) return;
        this.mark = form.markOfPage();
        const again = form.button("Try again", () => this.load());
        const why = element("p", { class: "form-error", role: "alert" }, form.visible(error.message));
        this.place.replaceChildren(why, again);
      }
    }

    fetchSpec(version) {
      return form.fetchJson(form.addressOf(this.root, this.model, "form", version));
    }

    // Take over what has changed on the server since; what was typed stays.
    async follow() {
      if (this.isFollowing || form.markOfPage() === this.mark) return;
      if (!this.inputs || !this.inputs.isConnected) {
        await this.load();
        return;
      }
      this.isFollowing = true;
      const loading = this.loading;
      const { spec, notice } = await form.renewed(this.spec, this.version, (version) =>
        this.fetchSpec(version),
      );
      this.isFollowing = false;
      // Another version was chosen meanwhile.
      if (this.loading !== loading) return;
      this.mark = spec.mark;
      this.notice.textContent = form.visible(notice);
      form.keepingFocus(this.place, () => this.renew(spec));
    }

    renew(spec) {
      const before = this.spec;
      this.spec = spec;
      if (form.isSameSignature(before, spec)) {
        const choices = form.choicesView(this);
        this.choices.replaceWith(choices);
        this.choices = choices;
        this.showRequest();
        return;
      }
      this.rows = form.carriedOver(before, this.rows, spec);
      if (!spec.inputs.length) this.mode = "json";
      this.draw();
    }

    draw() {
      this.choices = form.choicesView(this);
      this.message = element("p", { class: "form-error", role: "alert", hidden: true });
      this.curl = element("pre", { class: "form-curl", tabindex: "0" });
      this.curl.setAttribute("aria-label", "the same request with curl");
      this.result = this.result || element("div", { class: "form-result" });
      // Read to those who do not see the answer; the whole table would be too much.
      this.told = element("p", { class: "unseen", role: "status" });
      this.inputs = element("div");
      this.sending = element("button", { type: "submit", class: "form-send" }, "Send");
      const whole = element("form", { class: "form", novalidate: true, autocomplete: "off" });
      whole.append(this.choices, this.notice, this.inputs, this.message, this.sending);
      whole.append(element("h3", {}, "The same with curl"), this.curl, this.told, this.result);
      whole.addEventListener("submit", (event) => {
        event.preventDefault();
        this.send();
      });
      whole.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
        // A field of one line would send too.
        event.preventDefault();
        if (!event.repeat) this.send();
      });
      this.drawInputs();
      this.place.replaceChildren(whole);
    }

    choose(mode) {
      this.mode = mode;
      this.drawInputs();
    }

    drawInputs() {
      const { spec } = this;
      const parts = [];
      if (this.mode === "json") {
        parts.push(form.jsonView(this));
      } else {
        if (!spec.inputs.length) {
          const why = "The signature of this version is open: send any input as JSON.";
          parts.push(element("p", { class: "form-note" }, why));
        }
        parts.push(form.fieldsView(spec, this.rows, () => this.changed()), ...form.optionsView(this));
      }
      this.inputs.replaceChildren(...parts);
      this.changed();
      this.tellUnfilled();
    }

    // Why the body could not be made of the fields, once.
    tellUnfilled() {
      if (this.unfilled) this.tell(this.unfilled);
      this.unfilled = null;
    }

    bodyOfFields() {
      const given = this.spec.parameters.map((name) => {
        const text = this.parameters.get(name) || "";
        return [name, form.token({ ...ANY, name }, text, [0, -1, 0, 1])];
      });
      const known = new Set([...this.spec.outputs, ...this.spec.methods]);
      const options = {
        parameters: given.filter(([, token]) => token !== undefined),
        outputs: [...this.outputs].filter((name) => known.has(name)),
      };
      const make = this.protocol === "v1" ? form.bodyV1 : form.bodyV2;
      return make(this.spec, this.rows, options);
    }

    body() {
      return this.mode === "json" ? this.area.value : this.bodyOfFields();
    }

    // The versions that are asked: one or two; "" is whichever the traffic rules choose.
    asked() {
      return this.other ? [this.version || this.spec.version, this.other] : [this.version];
    }

    address(version) {
      return form.address(this.root, this.protocol, this.model, version);
    }

    changed() {
      this.message.hidden = true;
      this.showRequest();
    }

    showRequest() {
      this.sending.textContent = this.other ? "Send to both" : "Send";
      try {
        const body = this.body();
        const lines = this.asked().map((version) => form.curl(this.address(version), body));
        this.curl.textContent = lines.join("\n");
      } catch (error) {
        this.curl.textContent = form.visible(error.message);
      }
    }

    tell(error) {
      this.message.textContent = form.visible(error.message);
      this.message.hidden = false;
      form.markField(this.inputs, error.place);
    }

    async send() {
      this.message.hidden = true;
      if (this.running) this.running.abort();
      // An answer under a message would look like the answer to what is not valid.
      this.result.replaceChildren();
      this.told.textContent = "";
      let body;
      try {
        body = this.body();
      } catch (error) {
        this.tell(error);
        return;
      }
      const running = (this.running = new AbortController());
      this.result.replaceChildren(element("p", { class: "form-note" }, "Waiting for the answer…"));
      try {
        const answers = [];
        // One after the other, so that neither takes time from the other.
        for (const version of this.asked()) {
          answers.push(await form.send(this.address(version), body, running.signal));
        }
        await this.show(answers, running);
      } catch (error) {
        if (running.signal.aborted) return;
        this.result.replaceChildren();
        this.tell(new Error(`no answer came (${error.message}); is the server running?`));
      }
    }

    async show(answers, running) {
      const [answer] = answers;
      this.told.textContent = answers.map((each) => `${each.status} ${each.phrase}`).join(", ");
      if (answers.length > 1) {
        this.result.replaceChildren(form.comparison(answers, this.asked()));
        return;
      }
      const block = form.answerBlock(answer);
      this.result.replaceChildren(block);
      if (!this.spec.forecast || answer.status >= 400 || answer.isCut) return;
      const url = form.addressOf(this.root, this.model, "history", answer.version || this.version);
      const plotted = await form.forecastBlock(form.columnsOf(answer.text), url, this.ownHistory());
      if (!plotted || running.signal.aborted || this.running !== running) return;
      block.querySelector(".form-status").after(plotted.block);
      const plot = plotted.draw();
      new ResizeObserver(() => {
        const width = Math.max(240, plotted.place.clientWidth);
        if (width !== plot.width) plot.setSize({ width, height: plot.height });
      }).observe(plotted.place);
    }

    // The history that the request itself has, which replaces the model's own; else undefined.
    ownHistory() {
      const reason = "The request has a history of its own, which is not drawn.";
      if (this.mode === "json") {
        return this.area.value.includes('"history"') ? { reason } : undefined;
      }
      const at = this.spec.inputs.findIndex((input) => input.name === "history");
      const text = at < 0 ? "" : this.rows[0][at][0] || "";
      if (!text.trim()) return undefined;
      const dates = this.spec.inputs.findIndex((input) => input.name === "ds");
      if (dates >= 0 && (this.rows[0][dates][0] || "").trim()) return { reason };
      const tokens = form.tokens(this.spec.inputs[at].fields[0], text, [0, at, 0, 1]);
      const values = tokens.map((token) => (token === "null" ? null : Number(token)));
      return { values, ds: null, total: values.length };
    }
  }

  for (const section of document.querySelectorAll("[data-prediction-form]")) {
    new PredictionForm(section).start();
  }
})();
