// What the page does by itself: it asks for its own HTML again every few seconds and puts the parts
// that are marked "data-live" in place of the old ones. What a person types is in none of them.
"use strict";

(() => {
  const SECONDS = 5;
  const ANSWER_SECONDS = 10;
  const TOKEN = "bundleserver-token";
  const FOCUSABLE = "a[href], summary, button, input, select, textarea, pre[tabindex]";
  const connection = document.getElementById("connection");
  const forget = document.getElementById("forget");
  let timer = 0;
  let asking = null;
  let refusal = "";

  // Other scripts of the page ask with the same token; it is kept by this tab alone.
  const page = (window.bundleserverPage = {
    token: () => sessionStorage.getItem(TOKEN) || "",
    headers: (more) => {
      const token = page.token();
      return token ? { ...more, Authorization: `Bearer ${asBytes(token)}` } : { ...more };
    },
    // Ends a request that a server which hangs would never answer.
    deadline: () => AbortSignal.timeout(ANSWER_SECONDS * 1000),
    refresh: () => refresh(),
  });

  // A header's characters stand for bytes; a token's are those of UTF-8, as in its file.
  const asBytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

  async function refresh() {
    clearTimeout(timer);
    if (asking) asking.abort();
    const mine = (asking = new AbortController());
    try {
      const answer = await fetch(location.pathname + location.search, {
        headers: page.headers({ Accept: "text/html" }),
        signal: AbortSignal.any([mine.signal, page.deadline()]),
        credentials: "omit",
        redirect: "error",
      });
      if (answer.status === 401 || answer.status === 403) {
        await refuseToken(answer, mine.signal);
      } else if (answer.status === 404) {
        say("This model is gone");
      } else if (!answer.ok) {
        say(`The server answers with ${answer.status}`);
      } else {
        show(new DOMParser().parseFromString(await answer.text(), "text/html"));
        say("");
        document.dispatchEvent(new CustomEvent("page-refreshed"));
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      say("The server does not answer; what you see is old");
    } finally {
      if (asking === mine) {
        asking = null;
        plan();
      }
    }
  }

  function plan() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, SECONDS * 1000);
  }

  function say(text) {
    if (connection.textContent !== text) connection.textContent = text;
    connection.classList.toggle("bad-text", text !== "");
  }

  function show(fresh) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other || isInUse(part)) continue;
      const next = document.importNode(other, true);
      // Before they are compared, what a person has opened or closed is made alike.
      for (const details of part.querySelectorAll("details[id]")) {
        const same = next.querySelector(`#${CSS.escape(details.id)}`);
        if (same) same.open = details.open;
      }
      prepareToken(next);
      if (next.isEqualNode(part)) continue;
      const [id, at] = placeOfFocus(part);
      part.replaceWith(next);
      if (id) inside(document.getElementById(id))[at]?.focus({ preventScroll: true });
    }
    forget.hidden = !page.token();
  }

  const inside = (element) => (element ? [...element.querySelectorAll(FOCUSABLE)] : []);

  // The nearest element with an id around what has the focus, and its place in that.
  function placeOfFocus(part) {
    const active = document.activeElement;
    if (!part.contains(active)) return ["", -1];
    const around = active.parentElement.closest("[id]");
    return [around.id, inside(around).indexOf(active)];
  }

  // A person types in it, or has marked text to copy.
  function isInUse(part) {
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input, textarea, select")) return true;
    const marked = getSelection();
    return !!marked && !marked.isCollapsed && part.contains(marked.anchorNode);
  }

  // The administrator's token: never part of an address, of a form that is sent, or of a cookie.
  function prepareToken(part) {
    const form = part.querySelector("#token-form");
    if (!form) return;
    form.hidden = false;
    const problem = form.querySelector("#token-problem");
    if (problem.textContent !== refusal) problem.textContent = refusal;
  }

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "token-form") return;
    event.preventDefault();
    const field = event.target.querySelector("input");
    sessionStorage.setItem(TOKEN, field.value.trim());
    refusal = "";
    prepareToken(document);
    field.value = "";
    field.blur();
    refresh();
  });

  // What everybody is told follows at once, with why it is no more than that.
  async function refuseToken(answer, signal) {
    let why = `the server answers with ${answer.status}`;
    try {
      why = (await answer.json()).error;
    } catch {
      // It is not the server's own answer, but a proxy's.
    }
    if (signal.aborted) return;
    if (!page.token()) {
      say(`The server does not show the page: ${why}`);
      return;
    }
    sessionStorage.removeItem(TOKEN);
    refusal = `The token was refused and is forgotten: ${why}`;
    prepareToken(document);
    refresh();
  }

  forget.addEventListener("click", () => {
    sessionStorage.removeItem(TOKEN);
    forget.hidden = true;
    location.reload();
  });

  // The filter works without JavaScript too; with it the list follows what is typed.
  const filter = document.getElementById("filter");
  if (filter) {
    let typing = 0;
    const follow = () => {
      const query = new URLSearchParams(new FormData(filter));
      for (const [name, value] of [...query]) if (!value) query.delete(name);
      const text = query.toString();
      history.replaceState(null, "", text ? `?${text}` : location.pathname);
      refresh();
    };
    filter.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(follow, 200);
    });
    filter.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(typing);
      follow();
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });

  prepareToken(document);
  forget.hidden = !page.token();
  if (page.token()) refresh();
  else plan();
})();
