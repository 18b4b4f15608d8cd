// Elements out of text: nothing that an answer says is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

// Characters that turn the order of others, have no width, or are no text: shown by their numbers, so that no name looks like another.
const STRANGE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** A text of documents or clients as people may see it. */
export function plain(text) {
  return String(text).replace(STRANGE, (it) => `\u2423${it.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
}

/** Likewise where lines are meant. */
export function lines(text) {
  return String(text).split("\n").map(plain).join("\n");
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      for (const [key, text] of Object.entries(value)) if (text !== undefined) element.dataset[key] = text;
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** An element of HTML. Children are elements or text. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A name of a document or client: apart from the text around it, whichever way it runs, and cut by the style where it is long. */
export function named(text, attributes) {
  const shown = plain(text);
  return el("bdi", { class: "name", title: shown.length > 18 ? shown.slice(0, 600) : undefined, ...attributes }, shown);
}

/** Puts text in a place, if it is another one than before. */
export function put(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/** Puts children in the place of those before; whoever had the focus has it again, by `data-key`. */
export function replace(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  if (key !== undefined) {
    [...place.querySelectorAll("[data-key]")].find((it) => it.dataset.key === key)?.focus({ preventScroll: true });
  }
}

/** Says something to those who do not see it. */
export function announce(text) {
  put(document.getElementById("announce"), text);
}

/** Calls once things have been quiet for a moment. */
export function settled(call, milliseconds = 180) {
  let timer;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...words), milliseconds);
  };
}
