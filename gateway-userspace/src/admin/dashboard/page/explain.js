// Where a request would go, and which lines say so: what `sluice explain` prints.

import { announce, el, plain, replace } from "./dom.js";
import { ask } from "./agent.js";

const STAGES = { listener: "listener", filterChain: "filter chain", virtualHost: "virtual host", route: "route", cluster: "cluster" };
const GOOD = ["forward", "carried", "redirect", "direct"];

// JSON in base64 for URLs (RFC 4648, 5), of UTF-8.
function encoded(question) {
  const bytes = new TextEncoder().encode(JSON.stringify(question));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function field(label, control, hint) {
  const id = `explain-${label.toLowerCase().replaceAll(" ", "-")}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return el("div", { class: "field" }, el("label", { for: id }, label), control, hint && el("span", { class: "muted", id: `${id}-hint` }, hint));
}

function step({ stage, found, origins = [], notes = [], passedOver = [] }) {
  return el("li", { "data-found": String(Boolean(found)) },
    el("h3", {}, el("span", { class: "stage" }, STAGES[stage] ?? stage), " ", found ? el("bdi", { class: "long" }, plain(found)) : el("span", { class: "missing" }, "none fits")),
    origins.map((origin) => el("p", { class: "origin" }, "from ", el("code", {}, plain(origin)))),
    notes.map((note) => el("p", {}, plain(note))),
    passedOver.length > 0 && el("p", { class: "muted" }, found ? "tried before it:" : "nearest:"),
    passedOver.length > 0 && el("ul", { class: "missed" }, passedOver.map((miss) => el("li", {}, el("bdi", {}, plain(miss.name)), `: ${plain(miss.why)}`, miss.origin && el("p", { class: "origin" }, el("code", {}, plain(miss.origin)))))));
}

/** The view. */
export function view() {
  return {
    id: "explain",
    title: "Explain",
    start(panel) {
      const url = el("input", { type: "text", inputmode: "url", required: true, placeholder: "https://shop.example.com/cart?item=1", spellcheck: "false", autocomplete: "off" });
      const method = el("input", { type: "text", value: "GET", list: "methods", spellcheck: "false", autocomplete: "off", size: "8" });
      const headers = el("textarea", { rows: "3", placeholder: "x-user: jason", spellcheck: "false" });
      const client = el("input", { type: "text", placeholder: "198.51.100.7", spellcheck: "false", autocomplete: "off" });
      const sni = el("input", { type: "text", placeholder: "the URL's host", spellcheck: "false", autocomplete: "off" });
      const bare = el("input", { type: "checkbox", id: "explain-bare" });
      const result = el("section", { class: "explanation", "aria-label": "Explanation" }, el("p", { class: "empty" }, "Nothing is sent: the gateway says where such a request would go, and which lines of which documents decide that."));
      const form = el("form", { class: "card ask", "aria-label": "Request", on: { submit: async (event) => {
        event.preventDefault();
        const question = {
          url: url.value.trim(), method: method.value.trim(), headers: headers.value.split("\n"), client: client.value.trim(),
          ...(bare.checked ? { sni: "" } : sni.value.trim() ? { sni: sni.value.trim() } : {}),
        };
        try {
          const { outcome, summary, steps } = await ask(`explain/${encoded(question)}`);
          const level = GOOD.includes(outcome) ? "ok" : "bad";
          replace(result,
            el("p", { class: "lead", "data-level": level }, el("span", { "aria-hidden": "true" }, level === "ok" ? "● " : "✕ "), el("bdi", {}, plain(summary))),
            el("ol", { class: "steps" }, steps.map(step)));
          announce(plain(summary));
        } catch (error) {
          replace(result, el("p", { class: "fault" }, plain(error.message)));
          announce(plain(error.message));
        }
      } } },
      el("datalist", { id: "methods" }, ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map((name) => el("option", { value: name }))),
      field("Method", method), field("URL", url, "https:// asks with TLS, http:// without"),
      field("Headers", headers, "one a line, name: value"),
      field("Client address", client, "127.0.0.1 without one"), field("Server name", sni, "of the ClientHello, where it is another one"),
      el("div", { class: "field check" }, bare, el("label", { for: "explain-bare" }, "no server name at all")),
      el("button", { type: "submit", class: "go" }, "Explain"));
      panel.classList.add("asking");
      panel.append(form, result);
    },
  };
}
