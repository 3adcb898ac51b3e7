"use strict";
// Filters, search, folding and copying. The page is whole without it; the state is in the address.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const form = document.getElementById("filters");
  const { facets, subjects } = JSON.parse(document.getElementById("facets").textContent);
  const names = ["q", "subject", "layer", "level", "verdict", "effect", "dtype"];
  form.hidden = false;
  if (innerWidth < 640) form.querySelector("details").open = false;

  // What each cell and card counts: pairs of a facet's number and how often it occurs.
  const pairs = (element) =>
    (element.dataset.c || "").split(" ").filter(Boolean).map((pair) => pair.split("*").map(Number));
  const counted = (element) => ({
    pairs: pairs(element),
    figures: all(".n, i", element),
    rects: all(".bar rect", element),
    column: element.cellIndex - 1,
  });
  let items;  // read from the page when the first filter is set
  const read = () => all("[data-item]").map((element) => ({
    element,
    kind: element.dataset.item,
    data: element.dataset,
    text: `${element.dataset.l || ""} ${element.textContent}`.toLowerCase(),
    cells: all("td[data-c]", element).map(counted),
    own: "c" in element.dataset ? pairs(element) : null,
  }));

  for (const row of all("tr.layer")) {
    const body = row.parentElement, place = row.querySelector(".name");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = place.textContent;
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => unfold(body, !body.classList.contains("open")));
    place.replaceChildren(button);
  }
  function unfold(body, open) {
    body.classList.toggle("open", open);
    body.querySelector("button").setAttribute("aria-expanded", String(open));
  }

  const state = () => Object.fromEntries(names.map((name) => [name, form.elements[name].value.trim()]));

  function apply() {
    const wanted = state();
    const active = names.some((name) => wanted[name]);
    if (!active && !items) return;
    items ||= read();
    const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = subjects.indexOf(wanted.subject);
    const counting = wanted.level || wanted.verdict || wanted.effect || wanted.dtype;
    const counts = facets.map(([level, dtype, verdict, effect]) =>
      (!wanted.level || level === wanted.level) && (!wanted.dtype || dtype === wanted.dtype) &&
      (!wanted.verdict || verdict === wanted.verdict) && (!wanted.effect || effect === wanted.effect));
    const total = (pairs) => pairs.reduce((sum, [facet, n]) => sum + (counts[facet] ? n : 0), 0);
    const shown = {};

    for (const table of all(".matrix, .strips, .topic table, #networks > .scroll table")) {
      const lead = table.tHead.rows[0].cells.length - subjects.length;
      for (const row of table.rows)
        subjects.forEach((_, i) => { row.cells[lead + i].hidden = chosen >= 0 && i !== chosen; });
    }
    for (const item of items) {
      const { data } = item;
      let fits = words.every((word) => item.text.includes(word)) &&
        (!wanted.layer || !("l" in data) || data.l.split(" ").includes(wanted.layer)) &&
        (chosen < 0 || !("s" in data) || data.s === wanted.subject) &&
        (!wanted.level || !data.level || data.level === wanted.level) &&
        (!wanted.dtype || !data.d || data.d === wanted.dtype);
      if (fits && item.own) fits = total(item.own) > 0;
      if (item.cells.length) {
        let left = 0;
        for (const cell of item.cells)
          if (chosen < 0 || cell.column === chosen) left += recount(cell, counts, counting);
        fits = fits && left > 0;
      }
      item.element.hidden = !fits;
      if (fits) shown[item.kind] = (shown[item.kind] || 0) + 1;
    }
    for (const body of all(".matrix tbody")) {  // a layer stays as long as one of its clauses does
      const [layer, ...clauses] = body.rows;
      const some = clauses.some((row) => !row.hidden);
      layer.hidden = layer.hidden && !some;
      if (words.length && some) unfold(body, true);
    }
    for (const section of all("section.part"))
      section.hidden = !all("li", section).some((each) => !each.hidden);
    for (const none of all(".none")) {
      const within = all("[data-item]", none.parentElement);
      none.hidden = !within.length || within.some((each) => !each.hidden);
    }
    document.getElementById("shown").textContent = active
      ? `${shown.layer || 0} layers, ${shown.finding || 0} findings, ${shown.divergence || 0} recorded divergences match`
      : "";
  }

  // Count a cell again by the facets that are wanted, and return the sum.
  function recount(cell, counts, counting) {
    const by = {};
    let sum = 0;
    for (const [facet, n] of cell.pairs)
      if (counts[facet]) { sum += n; by[facets[facet][2]] = (by[facets[facet][2]] || 0) + n; }
    for (const figure of cell.figures) {
      const verdict = figure.className.replace("n ", ""), n = by[verdict] || 0;
      (figure.querySelector("b") || figure).textContent = n;
      figure.hidden = counting && !n;
    }
    let start = 0;
    for (const rect of cell.rects) {
      const width = sum ? (100 * (by[rect.getAttribute("class")] || 0)) / sum : 0;
      rect.setAttribute("x", `${start}%`);
      rect.setAttribute("width", `${width}%`);
      start += width;
    }
    return sum;
  }

  // The address: #ANCHOR?FILTERS, so that a link shows what its sender saw.
  function address(anchor) {
    const told = new URLSearchParams(Object.entries(state()).filter(([, value]) => value)).toString();
    const hash = anchor + (told && `?${told}`);
    history.replaceState(null, "", location.href.split("#")[0] + (hash && `#${hash}`));
  }
  const parts = () => location.hash.slice(1).split("?");
  function reveal(id) {
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    const fold = target.matches("article") && target.querySelector(":scope > details");
    if (fold) fold.open = true;
    if (target.tagName === "TBODY") unfold(target, true);
    if (!target.offsetHeight) { form.reset(); apply(); }  // filtered away
    target.scrollIntoView();
    for (const old of all("[aria-current]")) old.removeAttribute("aria-current");
    target.setAttribute("aria-current", "location");
  }
  function follow() {
    const [anchor, told] = parts();
    if (told !== undefined) {
      const given = new URLSearchParams(told);
      for (const name of names) form.elements[name].value = given.get(name) || "";
    }
    apply();
    reveal(anchor);
    address(anchor);
  }
  form.addEventListener("input", () => { apply(); address(parts()[0]); });
  form.addEventListener("reset", () => setTimeout(() => { apply(); address(parts()[0]); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);

  for (const button of all(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {  // not allowed here: select it, so that a key copies it
        getSelection().selectAllChildren(code);
        button.textContent = "Selected: press Ctrl+C";
      }
    });
  }
  follow();
})();
