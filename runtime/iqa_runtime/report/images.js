"use strict";
// The page of scored images. Whatever comes from outside gets in as text: no markup is ever made of it.
const report = (() => {
  const $ = (id) => document.getElementById(id);
  let { about, items, end } = JSON.parse($("data").textContent);
  const CHUNK = 100; // rows that are added at a time, as they come near the screen
  const STEERING = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

  // Text --------------------------------------------------------------------------------------------------------------

  const printable = (text) =>
    String(text).replace(STEERING, (sign) => "\\u" + sign.charCodeAt(0).toString(16).padStart(4, "0"));
  const exactly = (score) => score.toFixed(4);
  const unit = () => (items.some(({ row }) => row.path.includes("#t=")) ? "row" : "image"); // a video has several
  const plural = (count) => `${count} ${known.unit}${count === 1 ? "" : "s"}`;
  const joined = (parts) => parts.filter(Boolean).join(" \u00b7 ");
  const size = (row) => (row.width ? `${row.width}\u00a0\u00d7\u00a0${row.height}` : "");
  const reasons = (row) => printable((row.reasons || []).join(", "));
  const folderEnd = (path) => Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1;

  function worded(value) {
    if (Array.isArray(value)) return value.map(worded).join(", ");
    if (typeof value !== "number") return printable(value);
    return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  }

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) made[name] = value;
    made.append(...children); // strings become text nodes
    return made;
  }

  function* leaves(record) {
    for (const [name, value] of Object.entries(record)) {
      if (value && typeof value === "object" && !Array.isArray(value)) yield* leaves(value);
      else if (value !== null && worded(value) !== "") yield [name, worded(value)];
    }
  }

  const option = (value, text) => element("option", { value }, text);
  const apart = (tag, text) => element(tag, {}, element("bdi", {}, printable(text)));
  const listed = (pairs) => [...pairs].flatMap(([name, text]) => [apart("dt", name), apart("dd", text)]);

  // What is shown, and in which order -----------------------------------------------------------------------------------

  const known = {}; // what follows from the items, and is found anew when some have come
  const has = (key) => items.some(({ row }) => row[key] !== null && row[key] !== undefined);

  function prepare(item, index) {
    Object.assign(item.row, end.added?.[index]);
    Object.assign(item, { index, lower: item.row.path.normalize().toLowerCase() });
  }

  function gather() {
    const scored = items.filter(({ row }) => row.score !== null);
    const scores = scored.map(({ row }) => row.score);
    const low = scores.reduce((least, score) => Math.min(least, score), Infinity);
    const high = scores.reduce((most, score) => Math.max(most, score), -Infinity);
    if (low !== known.low || high !== known.high) Object.assign(state, { from: null, to: null });
    Object.assign(known, { scored, low, high, unit: unit(), bars: low < high ? 32 : 1, better: about.higher_is_better ? 1 : -1 });
    known.failed = items.filter(({ row }) => row.score === null);
    known.folders = new Set(scored.map(({ row }) => row.path.slice(0, folderEnd(row.path))));
    known.totals = counted(scored);
    known.columns = columns();
  }

  const nothing = { text: "", verdict: "", reason: "", from: null, to: null };
  const state = { ...nothing, order: "worst" };
  let shown = [];
  let added = 0;

  const text = (one, other) => (one < other ? -1 : Number(one > other));
  const orders = {
    worst: ["Worst first", (a, b) => known.better * (a.score - b.score)],
    best: ["Best first", (a, b) => known.better * (b.score - a.score)],
    name: ["By name", (a, b) => text(a.path, b.path)],
    large: ["Largest first", (a, b) => b.width * b.height - a.width * a.height],
    group: ["By group", (a, b) => text(a.group ?? "", b.group ?? "") || (a.rank ?? Infinity) - (b.rank ?? Infinity)],
    given: ["As scored", () => 0],
  };
  if (!has("group")) delete orders.group;

  const barOf = ({ score }) => Math.min(known.bars - 1, Math.floor(((score - known.low) / (known.high - known.low || 1)) * known.bars));
  const edge = (bar) => exactly(known.low + ((known.high - known.low) * bar) / known.bars);
  const isChosen = (bar) => state.from !== null && bar >= state.from && bar <= state.to;
  const passes = ({ row, lower }) =>
    lower.includes(state.text) &&
    (!state.verdict || row.verdict === state.verdict) &&
    (!state.reason || (row.reasons || []).includes(state.reason));

  function change(changes) {
    Object.assign(state, changes);
    const passing = known.scored.filter(passes);
    shown = passing.filter(({ row }) => state.from === null || isChosen(barOf(row)));
    shown.sort((a, b) => orders[state.order][1](a.row, b.row) || a.index - b.index);
    added = 0;
    body.replaceChildren();
    addRows();
    drawBars(passing);
    $("clear").hidden = shown.length === known.scored.length;
    $("count").textContent = ($("clear").hidden ? "" : `${shown.length} of `) + plural(known.scored.length);
    $("nothing").hidden = shown.length > 0 || !known.scored.length;
    $("order").value = state.order;
    for (const heading of document.querySelectorAll("th[data-up]")) {
      const { up, down } = heading.dataset;
      heading.ariaSort = state.order === up ? "ascending" : state.order === down ? "descending" : null;
    }
  }

  // The histogram -------------------------------------------------------------------------------------------------------

  const counted = (some) => some.reduce((counts, { row }) => (counts[barOf(row)]++, counts), new Array(known.bars).fill(0));
  let bins = [];
  let anchor = 0;

  function makeBars() {
    $("histogram").hidden = !known.scored.length;
    if (bins.length !== known.bars) {
      bins = Array.from({ length: known.bars }, (_, bar) =>
        element("button", { type: "button", tabIndex: bar ? -1 : 0 }, element("i"), element("i"), element("i")),
      );
      $("bars").replaceChildren(...bins);
    }
    $("low").textContent = `${edge(0)} ${known.better > 0 ? "worst" : "best"}`;
    $("high").textContent = `${known.better > 0 ? "best" : "worst"} ${edge(known.bars)}`;
  }

  function drawBars(passing) {
    const parts = [known.totals, counted(passing), counted(passing.filter(({ row }) => row.verdict === "fail"))];
    bins.forEach((button, bar) => {
      parts.forEach((counts, part) => (button.children[part].style.height = `${(100 * counts[bar]) / Math.max(...known.totals)}%`));
      button.ariaPressed = String(isChosen(bar));
      button.title = button.ariaLabel = `${edge(bar)} to ${edge(bar + 1)}: ${plural(parts[1][bar])}`;
    });
    $("bars").classList.toggle("chosen", state.from !== null);
    $("chosen").textContent = state.from === null ? "" : `${edge(state.from)} to ${edge(state.to + 1)}`;
  }

  const choose = (bar) => change({ from: Math.min(anchor, bar), to: Math.max(anchor, bar) });
  const clearBars = () => change({ from: null, to: null });
  function prepareBars() {
    let dragged = false;
    const barAt = ({ clientX, clientY }) => bins.indexOf(document.elementFromPoint(clientX, clientY)?.closest("#bars button"));
    $("bars").addEventListener("pointerdown", (event) => {
      dragged = false;
      if (!event.shiftKey) anchor = barAt(event);
    });
    $("bars").addEventListener("pointermove", (event) => {
      const bar = barAt(event);
      if (!event.buttons || bar < 0 || (bar === anchor && !dragged)) return;
      dragged = true;
      choose(bar);
    });
    $("bars").addEventListener("click", (event) => {
      const bar = bins.indexOf(event.target.closest("button"));
      if (dragged || bar < 0) return;
      if (!event.shiftKey) anchor = bar;
      if (state.from === bar && state.to === bar) clearBars();
      else choose(bar);
    });
    $("bars").addEventListener("keydown", (event) => {
      if (event.key === "Escape") clearBars();
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const next = bins[bins.indexOf(document.activeElement) + step];
      if (!next) return;
      event.preventDefault();
      bins.forEach((button) => (button.tabIndex = button === next ? 0 : -1));
      next.focus();
      if (event.shiftKey) choose(bins.indexOf(next));
    });
  }

  // The list --------------------------------------------------------------------------------------------------------------

  const body = document.querySelector("tbody");
  const rising = () => (known.better > 0 ? { up: "worst", down: "best" } : { up: "best", down: "worst" });
  const verdict = (row) => element("span", { className: row.verdict ?? "" }, row.verdict ?? "");
  const percentile = (row) => row.percentile?.toFixed(1) ?? "";
  const briefly = (row) => element("span", { className: "brief" }, verdict(row), " ", joined([percentile(row) && `better than ${percentile(row)} %`, row.rank && `rank ${row.rank}`, reasons(row), size(row)]));
  const columns = () => [
    { kind: "picture", title: "", content: () => [] },
    { kind: "name", title: "image", content: (row) => [...named(row.path), briefly(row)], up: "name" },
    { kind: "number score", title: "score", content: (row) => [exactly(row.score)], ...rising() },
    { kind: "number rest", title: "percentile", content: (row) => [percentile(row)] },
    { kind: "rest", title: "verdict", content: (row) => [verdict(row)] },
    { kind: "rest long", title: "reasons", content: (row) => [reasons(row)] },
    { kind: "rest less long", title: "group", content: (row) => [element("bdi", {}, printable(row.group ?? ""))] },
    { kind: "number rest", title: "rank", content: (row) => [String(row.rank ?? "")] },
    { kind: "number rest less", title: "size", content: (row) => [size(row)], down: "large" },
  ].filter(({ title }) => !["percentile", "verdict", "reasons", "group", "rank"].includes(title) || has(title));

  function named(path) {
    const cut = folderEnd(path);
    const name = element("bdi", {}, printable(path.slice(cut)));
    return known.folders.size > 1 && cut ? [element("bdi", { className: "folder" }, printable(path.slice(0, cut))), name] : [name];
  }

  function rowOf(item) {
    const cells = known.columns.map(({ kind, content }) => element("td", { className: kind }, ...content(item.row)));
    const button = element("button", { type: "button", className: "thumbnail", ariaLabel: `Open ${printable(item.row.path)}` });
    if (item.thumbnail) button.append(element("img", { src: item.thumbnail, alt: "", decoding: "async" }));
    cells[0].append(button);
    return element("tr", { onclick: () => open(item) }, ...cells);
  }

  function addRows() {
    body.append(...shown.slice(added, added + CHUNK).map(rowOf));
    added = Math.min(shown.length, added + CHUNK);
    watch.disconnect();
    if (added < shown.length) watch.observe(body.lastElementChild);
  }
  const watch = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && addRows(), { rootMargin: "1200px" });

  const headings = () =>
    known.columns.map(({ kind, title, up, down }) => {
      const turn = () => change({ order: state.order === up ? down || up : up || down });
      const content = up || down ? element("button", { type: "button", onclick: turn }, title) : title;
      const heading = element("th", { className: kind, scope: "col" }, content);
      if (up || down) Object.assign(heading.dataset, { up, down });
      return heading;
    });

  // One image ---------------------------------------------------------------------------------------------------------------

  const dialog = $("detail");
  let current = 0;

  function open(item) {
    current = shown.indexOf(item);
    const { path, range, direction, width, height, ...facts } = item.row;
    $("name").replaceChildren(...named(path));
    $("place").textContent = `${current + 1} of ${shown.length}`;
    $("facts").replaceChildren(...listed(leaves({ ...facts, size: size(item.row) })));
    $("figure").hidden = !item.thumbnail;
    $("base").src = item.picture || item.thumbnail || "";
    const names = Object.keys(item.beside || {});
    const name = names.includes($("with").value) ? $("with").value : names[0];
    $("with").replaceChildren(...names.map((each) => option(each, each)));
    $("with").disabled = names.length < 2;
    lay(item, name);
    if (!dialog.open) dialog.showModal();
  }

  function lay(item, name) {
    $("with").value = name;
    const other = item.beside?.[name];
    const isMap = other !== undefined && "worst" in other;
    const picture = typeof other?.picture === "number" ? items[other.picture].beside[name].picture : other?.picture;
    const layers = isMap ? [$("base").src, picture] : other ? [picture] : [];
    $("other").replaceChildren(...layers.map((src) => element("img", { src, alt: "" })));
    $("stage").classList.toggle("map", isMap);
    $("wipe").hidden = $("edge").hidden = !other;
    $("scale").hidden = !isMap;
    $("worst").textContent = `worse ${worded(other?.worst)}`;
    $("best").textContent = `${worded(other?.best)} better`;
    wipe();
  }

  function wipe(place = $("slider").value) {
    $("slider").value = place;
    $("other").style.clipPath = `inset(0 0 0 ${$("slider").value}%)`;
    $("edge").style.left = `${$("slider").value}%`;
  }

  const go = (step) => shown[current + step] && open(shown[current + step]);

  function prepareDetail() {
    $("slider").addEventListener("input", () => wipe());
    $("with").addEventListener("input", () => lay(shown[current], $("with").value));
    for (const kind of ["pointerdown", "pointermove"])
      $("stage").addEventListener(kind, (event) => {
        const { left, width } = $("stage").getBoundingClientRect();
        if (event.buttons) wipe((100 * (event.clientX - left)) / width);
      });
    $("previous").addEventListener("click", () => go(-1));
    $("next").addEventListener("click", () => go(1));
    $("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      while (added <= current) addRows();
      body.children[current]?.querySelector("button").focus();
    });
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && !["slider", "with"].includes(event.target.id)) go(step);
    });
  }

  // Everything put together ---------------------------------------------------------------------------------------------

  function offer(id, key, values) {
    const counts = new Map(values.map((value) => [value, 0]));
    known.scored.flatMap(({ row }) => row[key] ?? []).forEach((value) => counts.set(value, (counts.get(value) ?? 0) + 1));
    const [any] = $(id).options;
    $(id).replaceChildren(any, ...[...counts].map(([value, count]) => option(value, `${printable(value)} (${count})`)));
    $(id).value = state[id];
    $(id).hidden = !has(key);
  }

  function prepareTools() {
    for (const id of ["verdict", "reason"]) $(id).addEventListener("input", () => change({ [id]: $(id).value }));
    $("order").append(...Object.entries(orders).map(([key, [title]]) => option(key, title)));
    $("order").addEventListener("input", () => change({ order: $("order").value }));
    $("search").addEventListener("input", () => change({ text: $("search").value.normalize().toLowerCase() }));
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    $("clear").addEventListener("click", () => {
      for (const id of ["search", "verdict", "reason"]) $(id).value = "";
      change(nothing);
    });
    document.addEventListener("keydown", (event) => {
      const focused = document.activeElement;
      if (dialog.open || event.ctrlKey || event.metaKey || event.altKey || focused.matches("select, input:not(#search)")) return;
      const place = [...body.children].indexOf(focused.closest("tbody tr"));
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      const next = event.key === "/" && focused !== $("search") ? $("search") : step && body.children[place < 0 ? 0 : place + step];
      if (!next) return;
      event.preventDefault();
      (next.querySelector("button") ?? next).focus();
    });
  }

  function tell() {
    const { scored, failed, folders } = known;
    const below = items.filter(({ row }) => row.verdict === "fail").length;
    const lines = [items.length && plural(items.length), has("verdict") && `${below} worse than the threshold`, failed.length && `${failed.length} without a score`];
    $("heading").textContent = printable(about.heading);
    $("lead").textContent = joined([...lines, about.score]);
    $("folder").textContent = folders.size === 1 ? printable([...folders][0]) : "";
    const notices = end.interrupted ? [...about.notices, "The run was ended early: these are the images it had come to."] : about.notices;
    $("notices").replaceChildren(...notices.map((text) => element("p", { className: "notice" }, printable(text))));
    $("errors").hidden = !failed.length;
    $("table").hidden = $("tools").hidden = !scored.length;
    $("failed").textContent = `Without a score: ${failed.length}`;
    $("messages").replaceChildren(...listed(failed.map(({ row }) => [row.path, row.error])));
    $("contract").replaceChildren(...listed(Object.entries(about.contract)));
    $("versions").replaceChildren(...listed(Object.entries(about.versions)));
    $("summary").textContent = printable(end.summary);
    document.querySelector("thead tr").replaceChildren(...headings());
  }

  function redraw() {
    const [item, rows] = [shown[current], added];
    const focused = shown[[...body.children].indexOf(document.activeElement.closest("tbody tr"))];
    gather();
    tell();
    offer("verdict", "verdict", ["fail", "pass"]);
    offer("reason", "reasons", []);
    makeBars();
    change({});
    while (added < Math.min(rows, shown.length)) addRows();
    current = Math.max(0, shown.indexOf(item));
    body.children[shown.indexOf(focused)]?.querySelector("button").focus();
  }

  items.forEach(prepare);
  prepareTools();
  prepareBars();
  prepareDetail();
  redraw();

  return {
    // Begin anew with another artefact.
    begin(other) {
      about = other;
      items = [];
      for (const id of ["search", "verdict", "reason"]) $(id).value = "";
      Object.assign(state, nothing);
      redraw();
    },
    // Show further images.
    add(some) {
      some.forEach((item, index) => prepare(item, items.length + index));
      items.push(...some);
      redraw();
    },
  };
})();
