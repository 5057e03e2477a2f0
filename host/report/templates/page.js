"use strict";
(() => {
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const told = new WeakMap();

  // Light and dark: as the system says, until a person chooses.
  const button = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  try { root.dataset.theme = localStorage.getItem("boardfront-theme") || ""; } catch (error) { /* a file may have no storage */ }
  if (!root.dataset.theme) delete root.dataset.theme;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("boardfront-theme", root.dataset.theme); } catch (error) { /* as above */ }
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();

  // What belongs together: a row, its points in every plot, its drawing.
  const linked = new Map();
  for (const element of document.querySelectorAll("[data-c]")) {
    const key = element.dataset.c;
    if (!linked.has(key)) linked.set(key, []);
    linked.get(key).push(element);
  }
  // The tip below shows what a browser would show a second later, beside it.
  for (const title of document.querySelectorAll("svg [data-c] > title, svg path > title")) {
    told.set(title.parentNode, title.textContent);
    title.remove();
  }
  const isPoint = (element) => element.tagName.toLowerCase() === "path";
  const rows = [...document.querySelectorAll("tr[data-c][tabindex]")];
  for (const row of rows) {
    const seen = new Set();
    for (const element of linked.get(row.dataset.c)) {
      const svg = element.ownerSVGElement;
      if (!isPoint(element) || seen.has(svg)) continue;
      seen.add(svg);
      element.setAttribute("tabindex", "0");
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", told.get(element) || "");
    }
  }

  let lit = null;
  const clear = () => {
    for (const ring of document.querySelectorAll("svg .ring")) ring.remove();
    if (lit !== null) for (const element of linked.get(lit)) element.classList.remove("lit");
    lit = null;
    tip.classList.remove("shown");
  };
  const light = (key) => {
    if (lit === key) return;
    clear();
    lit = key;
    for (const element of linked.get(key)) {
      element.classList.add("lit");
      if (!isPoint(element)) continue;
      const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      ring.setAttribute("class", "ring");
      ring.setAttribute("r", "10");
      ring.setAttribute("transform", element.getAttribute("transform") || "");
      element.parentNode.append(ring);
    }
  };
  const say = (element, x, y) => {
    const words = told.get(element);
    if (!words) return;
    tip.textContent = words;
    tip.classList.add("shown");
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
  };
  const owner = (target) => target instanceof Element ? target.closest("[data-c]") : null;
  const speaker = (target) => target instanceof Element && told.has(target) ? target : null;
  document.addEventListener("mouseover", (event) => {
    const element = owner(event.target);
    const point = speaker(event.target);
    if (element) light(element.dataset.c);
    else if (!rows.includes(document.activeElement)) clear();
    if (point) say(point, event.clientX, event.clientY);
  });
  document.addEventListener("mouseout", (event) => {
    if (!owner(event.relatedTarget) && !speaker(event.relatedTarget)) clear();
  });
  document.addEventListener("focusin", (event) => {
    const element = owner(event.target);
    if (!element) { clear(); return; }
    light(element.dataset.c);
    if (told.has(element)) {
      const box = element.getBoundingClientRect();
      say(element, box.right, box.bottom);
    }
  });
  const partner = (element) => {
    const all = linked.get(element.dataset.c);
    return isPoint(element)
      ? all.find((one) => one.tagName === "TR" && one.offsetParent !== null)
      : all.find((one) => isPoint(one) && one.hasAttribute("tabindex"));
  };
  const jump = (element) => {
    const other = partner(element);
    if (!other) return;
    if (!other.hasAttribute("tabindex")) other.setAttribute("tabindex", "-1");
    other.focus();
    other.scrollIntoView({ block: "center" });
  };
  document.addEventListener("keydown", (event) => {
    const element = owner(event.target);
    if (event.key === "Escape") clear();
    if (event.key === "Enter" && element && element === event.target) jump(element);
  });
  document.addEventListener("click", (event) => {
    const element = owner(event.target);
    if (element && isPoint(element)) jump(element);
  });

  // Sorting of long tables.
  for (const control of document.querySelectorAll("th button")) {
    control.addEventListener("click", () => {
      const head = control.closest("th");
      const body = head.closest("table").tBodies[0];
      const column = head.cellIndex;
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const difference = Number(x) - Number(y);
        return Number.isNaN(difference) ? x.localeCompare(y) : difference;
      };
      const sorted = [...body.rows].sort(compare);
      if (way === "descending") sorted.reverse();
      body.append(...sorted);
    });
  }
})();
