// Which way requests and connections take, and how they fare: listener, host, route, cluster, endpoints.

import { ask } from "./agent.js";
import { Details, pairs } from "./details.js";
import { el, named, plain, put, replace } from "./dom.js";
import { tier } from "./flows.js";
import * as format from "./format.js";
import { List, empty, table } from "./list.js";
import { draw } from "./map.js";
import { STATES, Traffic, level, wellness } from "./traffic.js";

const NARROW = matchMedia("(max-width: 960px)");
const ON_MAP = 20;
const IN_TABLE = 50;
const COLUMNS = [
  { title: "Route" }, { title: "Listener" }, { title: "Host" }, { title: "Destination" }, { title: "Endpoints" },
  { title: "Requests/s", class: "number", hint: "Of the destination's service" }, { title: "Errors", class: "number", hint: "Share of answers of 500 and above" },
  { title: "Bytes/s", class: "number" }, { title: "p50", class: "number" }, { title: "p99", class: "number" },
];

/** Endpoints as signs, the worst first, and in words. */
function signs(states) {
  const all = Object.keys(STATES).flatMap((state) => Array.from({ length: Math.min(states[state] ?? 0, 10) }, () => state)).slice(0, 10);
  return el("span", { class: "signs", "aria-hidden": "true" }, all.map((state) => el("span", { "data-level": STATES[state].level }, STATES[state].sign)));
}

function endpointRow({ address, state, why, kernel }) {
  const { sign, words, level: kind } = STATES[state];
  return { cells: [
    el("code", {}, address), el("span", { class: "mark", "data-level": kind }, el("span", { "aria-hidden": "true" }, sign), ` ${words}`, why && `: ${plain(why)}`),
    kernel ? `${format.count(kernel.active)} of ${format.count(kernel.flows)}` : "–", kernel ? format.bytes(kernel.bytesToBackend + kernel.bytesToClient) : "–",
  ] };
}

/** What the answer calls a route, in a line. */
function does(row) {
  return { redirect: `redirect ${row.what}`, answer: `answers ${row.what}`, nothing: row.what }[row.action] ?? "";
}

class Topology {
  id = "topology";
  title = "Topology";
  #list;
  #answer;
  #now;
  #traffic = new Traffic();
  #details;
  #picked;
  #mode = "map";
  #updates = () => {};
  #hasTrouble = false;
  trouble;

  start(panel) {
    this.#details = new Details(() => { this.#picked = undefined; });
    const modes = ["map", "table"].map((mode) => el("button", {
      type: "button", "aria-pressed": String(mode === this.#mode), on: { click: () => { this.#turn(mode); modes.forEach((it, at) => it.setAttribute("aria-pressed", String(["map", "table"][at] === mode))); } },
    }, mode === "map" ? "Map" : "Table"));
    const trouble = this.trouble = el("input", { type: "checkbox", id: "only-trouble", on: { change: () => { this.#hasTrouble = trouble.checked; this.#list.set("trouble", trouble.checked); } } });
    this.#list = new List(panel, {
      path: "topology", noun: "route", hint: "Host, path, cluster, document…", limit: this.#limit(),
      choices: [{ name: "listener", label: "Listener", options: [["", "All listeners"]] }],
      more: [el("span", { class: "check" }, trouble, el("label", { for: "only-trouble" }, "Only trouble")), el("div", { class: "segments", role: "group", "aria-label": "Form" }, modes)],
      render: (place, answer) => this.#render(place, answer),
    });
    panel.append(this.#details.place);
    NARROW.addEventListener("change", () => this.#turn(this.#mode));
    this.#list.refresh();
  }

  #isMap() {
    return this.#mode === "map" && !NARROW.matches;
  }

  #limit() {
    return this.#isMap() ? ON_MAP : IN_TABLE;
  }

  #turn(mode) {
    this.#mode = mode;
    this.#list.set("limit", this.#limit());
  }

  #render(place, answer) {
    const before = Object.keys(this.#answer?.clusters ?? {}).join();
    const isSame = this.#answer?.generation === answer.generation && before === Object.keys(answer.clusters).join();
    this.#answer = answer;
    if (!isSame) this.#traffic.clear();
    this.#list.put_listener([["", "All listeners"], ...answer.listeners.map(({ key, ways }) => [key, `${key} (${format.many(ways, "route")})`])]);
    if (answer.rows.length === 0) {
      this.#updates = () => {};
      replace(place, empty(this.#hasTrouble ? "Every destination is there, and every endpoint is well." : "No route fits."));
    } else if (this.#isMap()) {
      const drawn = draw(answer.rows, (column, of) => this.#node(column, of));
      this.#updates = drawn.update;
      replace(place, drawn.element);
    } else {
      replace(place, this.#table(answer));
    }
    this.#updates();
    this.#ask();
  }

  #listener(key) {
    return this.#answer.listeners.find((listener) => listener.key === key) ?? { key, path: "", protocol: "", origins: [], limits: [], open: true };
  }

  #node(column, of) {
    switch (column) {
      case "listener": return this.#listenerNode(this.#listener(of.listener));
      case "host": return { children: [of.host !== undefined || of.sni === undefined ? named(of.host ?? "any host") : named(of.sni), el("span", { class: "sub" }, this.#under(of))] };
      case "route": return { children: [named(of.condition, { class: "name path" }), el("span", { class: "sub" }, does(of) || plain(of.name) || (of.action === "carried" ? "bytes, unread" : ""))], pick: () => this.#pick({ row: of }) };
      case "cluster": return this.#clusterNode(of);
      default: return this.#endpointsNode(of);
    }
  }

  #under({ host, sni, tier: best }) {
    if (sni !== undefined && host === undefined) return `server name${best ? `, up to ${best}` : ""}`;
    return sni !== undefined ? `TLS, ${plain(sni)}` : "";
  }

  #listenerNode(listener) {
    const numbers = el("span", { class: "sub" });
    return {
      level: listener.open ? undefined : "bad",
      children: [
        el("span", { class: "head" }, el("code", {}, listener.key), el("span", { class: "protocol" }, listener.protocol)),
        el("span", { class: "sub carrier", title: listener.path }, el("span", { class: "tier", "data-tier": listener.steered ? "kernel" : "user" }, listener.steered ? "kernel" : "user space"), " ", this.#why(listener)),
        numbers,
      ],
      pick: () => this.#pick({ listener: listener.key }),
      update: () => put(numbers, this.#load(listener.key)),
    };
  }

  // The reason alone: the plane stands before it.
  #why({ path, open }) {
    if (!open) return plain(path);
    return plain(path.replace(/^(kernel|user space)(, )?/, "").replace(/^ ?\((.*?)\)/, "$1"));
  }

  #load(key) {
    const own = this.#now?.listeners.find((listener) => listener.key === key);
    if (!own) return "";
    const flows = own.kernel?.active ? [`${format.many(own.kernel.active, "flow")}`] : [];
    return [...flows, format.many(own.connections, "connection"), ...(own.requests > 0 ? [`${format.count(own.requests)} under way`] : [])].join(" · ");
  }

  #clusterNode(destination) {
    if (destination.cluster === null) {
      return { level: "bad", children: [named(destination.name), el("span", { class: "sub" }, "no such service: 503")] };
    }
    const numbers = el("span", { class: "sub" });
    // The domain that all services of a cluster share says nothing here.
    const brief = named(destination.name.replace(/\.svc\.cluster\.local(?=:)/, ""), { title: plain(destination.name).slice(0, 600) });
    return {
      children: [brief, numbers],
      pick: () => this.#pick({ cluster: destination.cluster, name: destination.name }),
      update: (box, links) => {
        const known = this.#traffic.of(destination.cluster);
        put(numbers, this.#fares(known));
        const bad = (known?.rates?.errorShare ?? 0) > 0 ? "bad" : undefined;
        if (bad) box.dataset.level = bad;
        else delete box.dataset.level;
        for (const link of links) {
          link.setAttribute("stroke-width", String(Math.min(6, 1.25 + Math.log2(1 + (known?.rates?.requests ?? 0) + (known?.rates?.opened ?? 0)) * 0.6)));
          link.classList.toggle("failing", Boolean(bad));
        }
      },
    };
  }

  #fares(known) {
    if (!known) return "";
    if (!known.traffic) return "not counted";
    const { rates } = known;
    if (!rates) return `${format.count(known.traffic.requests + known.traffic.opened)} so far`;
    const parts = [];
    if (known.traffic.requests > 0 || known.traffic.opened === 0) parts.push(format.rate(rates.requests));
    if (rates.errorShare > 0) parts.push(`${format.percent(rates.errorShare)} errors`);
    if (rates.p99 !== undefined) parts.push(`p99 ${format.milliseconds(rates.p99)}`);
    if (known.traffic.opened > 0) parts.push(format.bytesRate(rates.bytes));
    return parts.join(" · ");
  }

  #endpointsNode(destination) {
    const place = el("span", { class: "wellness" });
    const cluster = this.#answer.clusters[destination.cluster];
    return {
      children: [place],
      level: cluster ? undefined : "bad",
      update: (box) => {
        const known = this.#traffic.of(destination.cluster);
        const words = known ? wellness(known.states) : cluster ? (cluster.endpoints > 0 ? format.many(cluster.endpoints, "endpoint") : "no endpoint") : "nowhere";
        if (box.dataset.words === words) return;
        box.dataset.words = words;
        const kind = level(known);
        if (kind && kind !== "ok") box.dataset.level = kind;
        else if (cluster) delete box.dataset.level;
        replace(place, known && signs(known.states), el("span", { class: "sub", title: words }, words));
      },
    };
  }

  #table({ rows }) {
    const updates = [];
    const cells = (row, at) => {
      const listener = this.#listener(row.listener);
      const first = row.destinations[0];
      const numbers = COLUMNS.slice(5).map(() => el("span", {}, "–"));
      const states = el("span", { class: "wellness" });
      updates.push(() => {
        const known = first && this.#traffic.of(first.cluster);
        const rates = known?.rates;
        const shown = [format.rate(rates?.requests), format.percent(rates?.errorShare), format.bytesRate(rates?.bytes), format.milliseconds(rates?.p50), format.milliseconds(rates?.p99)];
        numbers.forEach((place, index) => put(place, shown[index]));
        const words = known ? wellness(known.states) : "";
        if (states.dataset.words !== words) {
          states.dataset.words = words;
          const kind = level(known);
          if (kind) states.dataset.level = kind;
          replace(states, known && signs(known.states), words);
        }
      });
      const destination = (it) => it.cluster === null
        ? el("span", { class: "mark", "data-level": "bad" }, named(it.name), " no such service")
        : el("button", { type: "button", class: "link", "data-key": `cluster ${at} ${it.cluster}`, on: { click: () => this.#pick({ cluster: it.cluster, name: it.name }) } }, named(it.name), row.destinations.length > 1 && ` ${Math.round(it.share)} %`);
      return { cells: [
        el("button", { type: "button", class: "link path", "data-key": `route ${at}`, on: { click: () => this.#pick({ row }) } }, named(row.condition)),
        el("span", {}, el("button", { type: "button", class: "link", "data-key": `listener ${at}`, on: { click: () => this.#pick({ listener: row.listener }) } }, row.listener), " ", el("span", { class: "tier", "data-tier": listener.steered ? "kernel" : "user", title: listener.path }, listener.steered ? "kernel" : "user space")),
        row.host !== undefined ? named(row.host) : row.sni !== undefined ? named(row.sni) : "any",
        row.destinations.length > 0 ? el("span", { class: "destinations" }, row.destinations.map(destination), row.moreDestinations > 0 && ` and ${row.moreDestinations} more`) : plain(does(row)),
        first ? states : "–", ...numbers,
      ] };
    };
    const element = el("div", { class: "scroll" }, table("Routes", COLUMNS, rows.map(cells)));
    this.#updates = () => updates.forEach((update) => update());
    return element;
  }

  #pick(picked) {
    this.#picked = picked;
    const title = picked.listener ?? (picked.name !== undefined ? plain(picked.name) : plain(picked.row.condition));
    this.#details.open(title, this.#detail());
    if (picked.cluster !== undefined) this.#askDetail();
  }

  #detail(moving) {
    const { listener, row, cluster } = this.#picked;
    if (listener !== undefined) return this.#listenerDetail(this.#listener(listener));
    if (row !== undefined) return this.#routeDetail(row);
    return this.#clusterDetail(cluster, moving);
  }

  #listenerDetail(listener) {
    const own = this.#now?.listeners.find(({ key }) => key === listener.key);
    const { kernel } = own ?? {};
    return [
      pairs([
        ["Carried by", plain(listener.path)],
        ["Best tier of its connections", listener.tier ? tier(listener.tier) : undefined],
        ["Protocol", listener.protocol],
        ["Routes", format.count(listener.ways)],
        ["Limits", listener.limits.join(", ") || "none"],
        ["Connections in user space", own && `${format.count(own.connections)} of ${format.count(own.accepted)} accepted`],
        ["Requests under way", own && format.count(own.requests)],
        ["Refused over the limit", own && format.count(own.refused)],
        ["Flows in the kernel", kernel && `${format.count(kernel.active)} of ${format.count(kernel.flows)}`],
        ["Bytes in the kernel", kernel && `${format.bytes(kernel.bytesToBackend)} to backends, ${format.bytes(kernel.bytesToClient)} to clients`],
      ]),
      el("h3", {}, "From"), el("ul", { class: "plainly" }, listener.origins.map((origin) => el("li", {}, el("code", {}, plain(origin))))),
    ];
  }

  #routeDetail(row) {
    return [
      pairs([
        ["Listener", el("code", {}, row.listener)], ["Host", row.host !== undefined ? named(row.host) : undefined], ["Server names", row.sni !== undefined ? named(row.sni) : undefined],
        ["Condition", plain(row.condition)], ["Name", row.name ? plain(row.name) : undefined],
        ["Does", does(row) || (row.action === "carried" ? "carries bytes unread" : "forwards")], ["Best tier", row.tier ? tier(row.tier) : undefined],
      ]),
      row.destinations.length > 0 && [el("h3", {}, "Destinations"), el("ul", { class: "plainly" }, row.destinations.map((it) => el("li", {}, named(it.name), ` ${Math.round(it.share)} %`, it.cluster === null && " (no such service)")))],
      el("h3", {}, "From"), el("p", {}, el("code", {}, plain(row.origin ?? "nothing that is written"))),
    ];
  }

  #clusterDetail(place, moving) {
    const cluster = this.#answer.clusters[place];
    if (!cluster) return [empty("It is on another page, or gone.")];
    const known = this.#traffic.of(place);
    const { traffic, rates } = known ?? {};
    const endpoints = (moving?.clusters[place] ?? known)?.endpoints ?? [];
    return [
      pairs([
        ["Protocol", `${cluster.protocol}${cluster.tls ? ", TLS" : ""}`], ["DestinationRule", cluster.rule ? plain(cluster.rule) : undefined],
        ["Requests", traffic && format.count(traffic.requests)], ["Errors (5xx)", traffic && format.count(traffic.errors)], ["Answers 4xx", traffic && format.count(traffic.clientErrors)],
        ["Requests a second", rates && format.rate(rates.requests)], ["Share of errors", rates && format.percent(rates.errorShare)],
        ["p50", rates && format.milliseconds(rates.p50)], ["p99", rates && format.milliseconds(rates.p99)],
        ["Bytes of bodies", traffic && `${format.bytes(traffic.received)} in, ${format.bytes(traffic.sent)} out`],
        ["TCP connections", traffic && `${format.count(traffic.opened - traffic.closed)} of ${format.count(traffic.opened)}`],
        ["Bytes of TCP", traffic && `${format.count(traffic.tcpReceived)} in, ${format.count(traffic.tcpSent)} out`],
      ]),
      el("p", { class: "muted" }, "Requests are counted by service: its subsets and ports have the same numbers. Rates are of the last ten seconds."),
      el("h3", {}, `Endpoints: ${known ? wellness(known.states) : format.many(cluster.endpoints, "endpoint")}`),
      endpoints.length > 0 && table("Endpoints, those that are not well first", [{ title: "Address" }, { title: "State" }, { title: "Kernel flows", class: "number" }, { title: "Bytes", class: "number" }], endpoints.map(endpointRow)),
    ];
  }

  async #ask() {
    const { generation, clusters } = this.#answer ?? {};
    const places = Object.keys(clusters ?? {});
    if (places.length === 0) return;
    try {
      const moving = await ask("traffic", { generation, clusters: places.join(), endpoints: "0" });
      if (moving.generation !== generation) {
        await this.#list.refresh();
        return;
      }
      this.#traffic.add(moving);
      this.#updates();
      if (this.#picked && this.#details.isOpen && this.#picked.cluster === undefined) this.#details.show(this.#detail());
    } catch {
      // The next one will tell.
    }
  }

  async #askDetail() {
    const { cluster } = this.#picked;
    try {
      const moving = await ask("traffic", { generation: this.#answer.generation, clusters: String(cluster), endpoints: "200" });
      if (this.#picked?.cluster === cluster) this.#details.show(this.#detail(moving));
    } catch {
      // The next one will tell.
    }
  }

  moved(now) {
    this.#now = now;
    this.#traffic.bounds = now.bounds;
    this.#updates();
  }

  /** Asked for from elsewhere: what is not well alone. */
  how(what) {
    if (what === "trouble" && !this.#hasTrouble) this.trouble.click();
  }

  changed() {
    return this.#list?.refresh();
  }

  async tick() {
    if (!this.#list) return;
    // Whether endpoints are well is no matter of generations.
    if (this.#hasTrouble) await this.#list.refresh();
    else await this.#ask();
    if (this.#picked?.cluster !== undefined && this.#details.isOpen) await this.#askDetail();
  }
}

/** The view. */
export function view() {
  return new Topology();
}
