// Tabs as WAI-ARIA has them: arrows, Home and End move, and what has the focus is shown. The one that is shown is in the address.

import { el, put } from "./dom.js";

/** Makes them of views `{ id, title, start(panel) }`. Returns who says which is shown. */
export function start(views, onShow) {
  const list = document.getElementById("tabs");
  const main = document.getElementById("main");
  let shown;
  const tabs = views.map((view) => {
    const badge = el("span", { class: "count", hidden: true });
    const tab = el("button", {
      type: "button", role: "tab", id: `tab-${view.id}`, "aria-controls": `panel-${view.id}`, "aria-selected": "false", tabindex: "-1",
      on: { click: () => show(view, true) },
    }, view.title, badge);
    const panel = el("div", { role: "tabpanel", id: `panel-${view.id}`, "aria-labelledby": tab.id, tabindex: "0", hidden: true, class: "panel" });
    main.append(panel);
    return { view, tab, panel, badge, started: false };
  });
  list.append(...tabs.map(({ tab }) => tab));

  function show(view, focus) {
    shown = tabs.find((it) => it.view === view) ?? tabs[0];
    for (const it of tabs) {
      const is = it === shown;
      it.tab.setAttribute("aria-selected", String(is));
      it.tab.tabIndex = is ? 0 : -1;
      it.panel.hidden = !is;
    }
    if (!shown.started) {
      shown.started = true;
      shown.view.start(shown.panel);
    }
    if (focus) {
      shown.tab.focus();
      history.replaceState(null, "", `#${shown.view.id}`);
    }
    onShow(shown.view);
  }

  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(shown);
    const last = tabs.length - 1;
    const next = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(tabs[next].view, true);
  });
  const asked = () => views.find((view) => location.hash === `#${view.id}`);
  window.addEventListener("hashchange", () => asked() && asked() !== shown.view && show(asked(), false));
  show(asked() ?? views[0], false);

  return {
    shown: () => shown.view,
    show: (id) => show(views.find((view) => view.id === id), true),
    badge(id, number, level) {
      const { badge } = tabs.find((it) => it.view.id === id);
      badge.hidden = !number;
      badge.dataset.level = level;
      put(badge, number ? String(number) : "");
    },
  };
}
