// A line of the last quarter of an hour, with what it shows in words.

import { svg } from "./dom.js";

const WIDTH = 150;
const HEIGHT = 30;

/** Draws values `{ at, value }` into an element of SVG; `words` says what a reader of the screen hears. */
export function draw(place, values, span, words) {
  const now = values.at(-1)?.at ?? 0;
  const top = Math.max(...values.map(({ value }) => value), 0);
  const x = (at) => WIDTH - ((now - at) / span) * WIDTH;
  const y = (value) => HEIGHT - 2 - (top > 0 ? (value / top) * (HEIGHT - 6) : 0);
  const points = values.map(({ at, value }) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  place.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  place.setAttribute("preserveAspectRatio", "none");
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", words);
  if (points.length < 2) {
    place.replaceChildren(svg("path", { class: "base", d: `M0 ${HEIGHT - 2}H${WIDTH}` }));
    return;
  }
  const line = `M${points.join("L")}`;
  place.replaceChildren(
    svg("path", { class: "base", d: `M0 ${HEIGHT - 2}H${WIDTH}` }),
    svg("path", { class: "area", d: `${line}L${WIDTH},${HEIGHT - 2}L${x(values[0].at).toFixed(1)},${HEIGHT - 2}Z` }),
    svg("path", { class: "line", d: line }),
  );
}
