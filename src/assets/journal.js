// What the page does beyond what HTML does by itself: filter and search, keys, dark and light. It makes nodes by textContent
// and Option alone, and asks nobody for anything.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const rows = [...document.querySelectorAll(".row")];
  const chunks = [...document.querySelectorAll(".chunk")].map((chunk) => ({ chunk, rows: [...chunk.children] }));
  const controls = document.querySelector(".controls");
  const search = $("search");
  const filters = ["kind", "effect", "boot", "result"].map((name) => ({ name, select: $("by-" + name) }));

  // Filter and search.

  for (const { name, select } of filters) {
    const values = new Set(rows.map((row) => row.dataset[name]).filter((value) => value !== undefined));
    const sorted = name === "boot" ? [...values] : [...values].sort();
    select.append(new Option("all", ""), ...sorted.map((value) => new Option(value, value)));
    select.disabled = values.size === 0;
    select.addEventListener("change", show);
  }

  const texts = new WeakMap();
  const textOf = (row) => {
    let text = texts.get(row);
    if (text === undefined) {
      text = row.textContent.toLowerCase();
      texts.set(row, text);
    }
    return text;
  };

  function show() {
    const chosen = filters.filter(({ select }) => select.value !== "");
    const words = (search.value.toLowerCase().match(/"[^"]+"|\S+/g) ?? []).map((word) => word.replaceAll('"', ""));
    const fits = (row) =>
      chosen.every(({ name, select }) => row.dataset[name] === select.value) &&
      (words.length === 0 || words.every((word) => textOf(row).includes(word)));
    let shown = 0;
    for (const { chunk, rows } of chunks) {
      let here = 0;
      for (const row of rows) {
        const fit = !row.classList.contains("row") || fits(row);
        if (row.hidden === fit) row.hidden = !fit;
        if (fit) here += 1;
      }
      chunk.hidden = here === 0;
      chunk.style.containIntrinsicBlockSize = "auto " + here * 32 + "px";
      shown += here;
    }
    $("count").textContent = shown === rows.length ? rows.length + " rows" : shown + " of " + rows.length + " rows";
  }

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 80);
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  // The event comes before the fields are empty.
  controls.addEventListener("reset", () => setTimeout(show));
  const clear = () => {
    controls.reset();
    show();
  };

  // A row's body, line by line. Nothing but white space is put in, and the button shows it as it is stored.

  const laidOut = (json) => {
    let depth = 0;
    const line = () => "\n" + "  ".repeat(depth);
    return json.replace(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g, (part, at) => {
      const next = json[at + 1];
      if (part === "," ) return part + line();
      if (part === ":") return ": ";
      if (part === "{" || part === "[") {
        depth += 1;
        return next === "}" || next === "]" ? part : part + line();
      }
      if (part === "}" || part === "]") {
        depth = Math.max(0, depth - 1);
        return json[at - 1] === "{" || json[at - 1] === "[" ? part : line() + part;
      }
      return part;
    });
  };

  document.addEventListener(
    "toggle",
    (event) => {
      const row = event.target;
      const body = row.querySelector?.(":scope > pre.body");
      if (!row.open || !body || row.querySelector(":scope > .as")) return;
      const stored = body.textContent;
      const button = document.createElement("button");
      button.className = "as";
      button.type = "button";
      const lay = (out) => {
        body.textContent = out ? laidOut(stored) : stored;
        button.textContent = out ? "Show as stored" : "Show line by line";
        button.setAttribute("aria-pressed", String(!out));
      };
      button.addEventListener("click", () => lay(body.textContent === stored && button.textContent !== "Show as stored"));
      lay(true);
      row.append(button);
    },
    true,
  );

  // A bar of the timeline leads to its row, which opens.

  const lead = () => {
    const row = /^#r\d+$/.test(location.hash) && $(location.hash.slice(1));
    if (!row) return;
    if (row.hidden) clear();
    row.open = true;
    row.scrollIntoView({ block: "center" });
    row.firstElementChild.focus({ preventScroll: true });
  };
  addEventListener("hashchange", lead);
  document.querySelector("svg.timeline")?.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.getAttribute("href") === location.hash) lead();
  });

  // Dark and light.

  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => {
    $("theme").textContent = isDark() ? "Light" : "Dark";
  };
  const turn = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  };
  system.addEventListener("change", name);
  $("theme").addEventListener("click", turn);

  // Keys.

  const step = (by) => {
    const seen = rows.filter((row) => !row.hidden);
    if (seen.length === 0) return;
    const at = seen.indexOf(document.activeElement?.closest(".row"));
    const to = at < 0 ? (by > 0 ? 0 : seen.length - 1) : Math.min(seen.length - 1, Math.max(0, at + by));
    seen[to].firstElementChild.focus();
  };
  const keys = {
    "/": () => search.focus(),
    j: () => step(1),
    k: () => step(-1),
    d: turn,
    "?": () => $("keys").showModal(),
    Escape: () => {
      clear();
      document.activeElement?.blur();
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const types = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (types && event.key !== "Escape") return;
    const key = keys[event.key];
    if (!key) return;
    event.preventDefault();
    key();
  });
  $("help").addEventListener("click", keys["?"]);

  for (const hidden of [controls, $("theme"), $("help")]) hidden.hidden = false;
  name();
  show();
  lead();
})();
