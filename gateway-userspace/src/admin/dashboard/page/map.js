// The topology drawn: a column each for listeners, hosts, routes, clusters and their endpoints, of the routes on the page. There are never
// more than those, so that it stays readable with any number.

import { el, svg } from "./dom.js";

const ROW = 46;
const GAP = 8;
const COLUMNS = [
  { id: "listener", title: "Listener", left: 0, width: 18, height: 62 },
  { id: "host", title: "Host", left: 21.5, width: 17, height: 38 },
  { id: "route", title: "Route", left: 42, width: 17.5, height: 38 },
  { id: "cluster", title: "Cluster", left: 63, width: 20, height: 40 },
  { id: "endpoints", title: "Endpoints", left: 86, width: 14, height: 40 },
];

// Nodes and links of rows; `id`s are unique by column.
function graph(rows) {
  const columns = COLUMNS.map(() => new Map());
  const links = new Map();
  const note = (column, id, row, of) => {
    const nodes = columns[column];
    if (!nodes.has(id)) nodes.set(id, { column, id, rows: new Set(), of });
    nodes.get(id).rows.add(row);
    return nodes.get(id);
  };
  const link = (from, to, row) => {
    const key = `${from.column} ${from.id}\n${to.id}`;
    if (!links.has(key)) links.set(key, { from, to, rows: new Set() });
    links.get(key).rows.add(row);
  };
  rows.forEach((row, at) => {
    const listener = note(0, row.listener, at, row);
    const host = note(1, `${row.listener}\n${row.sni ?? ""}\n${row.host ?? ""}`, at, row);
    const route = note(2, String(at), at, row);
    link(listener, host, at);
    link(host, route, at);
    for (const destination of row.destinations) {
      const cluster = note(3, destination.cluster === null ? `?${destination.name}` : String(destination.cluster), at, destination);
      const endpoints = note(4, cluster.id, at, destination);
      link(route, cluster, at);
      link(cluster, endpoints, at);
    }
  });
  return { columns: columns.map((nodes) => [...nodes.values()]), links: [...links.values()] };
}

// Rows stand below each other, a listener's together; what they share stands beside their middle, and what would overlap moves down.
function place(rows, columns) {
  let y = 0;
  let group = 0;
  const middles = rows.map((row, at) => {
    if (at > 0 && row.listener !== rows[at - 1].listener) {
      y = Math.max(y + GAP, group + COLUMNS[0].height + GAP * 2);
      group = y;
    }
    const middle = y + ROW / 2;
    y += ROW;
    return middle;
  });
  let bottom = Math.max(y, group + COLUMNS[0].height + GAP);
  for (const nodes of columns) {
    for (const node of nodes) {
      // Of the first listener that leads to it: the middle of all would lie between listeners with the same routes.
      const first = rows[Math.min(...node.rows)].listener;
      const own = [...node.rows].filter((row) => rows[row].listener === first).map((row) => middles[row]);
      node.middle = own.reduce((sum, middle) => sum + middle, 0) / own.length;
      // At the top of its routes, which may be more than a window shows.
      if (node.column === 0) node.middle = Math.min(...own) - ROW / 2 + COLUMNS[0].height / 2;
    }
    let free = 0;
    for (const node of [...nodes].sort((a, b) => a.middle - b.middle)) {
      const { height } = COLUMNS[node.column];
      node.top = Math.max(node.middle - height / 2, free);
      free = node.top + height + GAP;
    }
    bottom = Math.max(bottom, free);
  }
  return bottom;
}

/** Draws rows; `label(column, of)` makes the content of a node: `{ name, children, level, pick, update }`. */
export function draw(rows, label) {
  const { columns, links } = graph(rows);
  const height = place(rows, columns);
  const lines = svg("svg", { class: "links", "aria-hidden": "true", focusable: "false", preserveAspectRatio: "none", viewBox: `0 0 100 ${height}` });
  const board = el("div", { class: "board" }, lines);
  board.style.height = `${height}px`;
  const middle = (node) => node.top + COLUMNS[node.column].height / 2;
  for (const link of links) {
    const from = COLUMNS[link.from.column];
    const to = COLUMNS[link.to.column];
    const [x1, x2] = [from.left + from.width, to.left];
    const [y1, y2] = [middle(link.from), middle(link.to)];
    const bend = (x1 + x2) / 2;
    link.line = svg("path", { class: "link", d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}`, "vector-effect": "non-scaling-stroke" });
    lines.append(link.line);
  }
  const updates = [];
  const nodes = columns.flat();
  const light = (lit) => {
    board.classList.toggle("lit", Boolean(lit));
    const shares = (rowsOf) => lit && [...rowsOf].some((row) => lit.has(row));
    for (const node of nodes) node.box.classList.toggle("on", Boolean(shares(node.rows)));
    for (const link of links) link.line.classList.toggle("on", Boolean(shares(link.rows)));
  };
  columns.forEach((list, at) => {
    const place = el("ul", { "aria-label": COLUMNS[at].title });
    for (const node of list) {
      const { children, level, pick, update } = label(COLUMNS[at].id, node.of);
      node.box = el(pick ? "button" : "div", {
        class: `node ${COLUMNS[at].id}`, "data-level": level, "data-key": `${COLUMNS[at].id} ${node.id}`, ...(pick ? { type: "button" } : {}),
        on: { ...(pick ? { click: pick } : {}), mouseenter: () => light(node.rows), mouseleave: () => light(), focus: () => light(node.rows), blur: () => light() },
      }, children);
      const item = el("li", {}, node.box);
      item.style.left = `${COLUMNS[at].left}%`;
      item.style.width = `${COLUMNS[at].width}%`;
      item.style.top = `${node.top}px`;
      item.style.height = `${COLUMNS[at].height}px`;
      place.append(item);
      if (update) updates.push(() => update(node.box, links.filter((link) => link.from === node).map(({ line }) => line)));
    }
    board.append(place);
  });
  const heads = el("div", { class: "heads", "aria-hidden": "true" }, COLUMNS.map(({ title, left }) => {
    const head = el("span", {}, title);
    head.style.left = `${left}%`;
    return head;
  }));
  return { element: el("div", { class: "map" }, heads, board), update: () => updates.forEach((update) => update()) };
}
