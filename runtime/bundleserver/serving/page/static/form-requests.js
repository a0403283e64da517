// Sending a body to the server's ordinary routes, and the line of curl that does the same.
(() => {
  "use strict";
  const form = (window.predictionForm = window.predictionForm || {});
  const MOST_ANSWER_BYTES = 4 * 1024 * 1024;

  // A name as one segment of a path; encodeURIComponent leaves out what a shell may read.
  const segment = (name) =>
    encodeURIComponent(name.toWellFormed ? name.toWellFormed() : name).replace(
      /[!'()*]/g,
      (character) => "%" + character.charCodeAt(0).toString(16).toUpperCase(),
    );

  // The address of a prediction; version "" is whichever the server's traffic rules choose.
  form.address = (root, protocol, model, version) => {
    const place = segment(model) + (version ? `/versions/${segment(version)}` : "");
    const path = protocol === "v1" ? `v1/models/${place}:predict` : `v2/models/${place}/infer`;
    return new URL(path, root).href;
  };

  form.addressOf = (root, model, what, version) => {
    const url = new URL(`page/models/${segment(model)}/${what}`, root);
    if (version) url.searchParams.set("version", version);
    return url.href;
  };

  form.shellQuoted = (text) => "'" + text.replace(/'/g, "'\\''") + "'";

  // --data-raw, since a body that begins with @ would name a file.
  form.curl = (url, body) =>
    `curl ${form.shellQuoted(url)} -H 'content-type: application/json' \\\n` +
    `  --data-raw ${form.shellQuoted(body)}`;

  // Send a body; returns what came, also for an answer that is an error.
  // Throws only where no answer came.
  form.send = async (url, body, signal) => {
    const began = performance.now();
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal,
      credentials: "same-origin",
      cache: "no-store",
    });
    const { text, isCut } = await bounded(response);
    const milliseconds = performance.now() - began;
    return {
      status: response.status,
      phrase: response.statusText,
      headers: [...response.headers],
      version: response.headers.get("x-model-version") || "",
      text,
      isCut,
      milliseconds,
    };
  };

  // The text of a response, at most so many bytes of it.
  const bounded = async (response) => {
    if (!response.body) return { text: await response.text(), isCut: false };
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    let size = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { text: text + decoder.decode(), isCut: false };
      size += value.length;
      text += decoder.decode(value, { stream: true });
      if (size > MOST_ANSWER_BYTES) {
        reader.cancel();
        return { text, isCut: true };
      }
    }
  };

  form.fetchJson = async (url) => {
    const page = window.bundleserverPage;
    const headers = page ? page.headers({}) : {};
    const response = await fetch(url, { headers, cache: "no-store" });
    const document = await response.json();
    if (!response.ok) throw new Error(document.error || `status ${response.status}`);
    return document;
  };
})();
