(() => {
  "use strict";
  const root = document.documentElement;
  const theme = new URLSearchParams(location.search).get("theme") || location.hash.replace(/^#theme=/, "");
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  const config = JSON.parse(document.getElementById("vega-config").textContent);
  const narrowest = 60;
  const drawn = new Map();
  let failures = 0;

  const parsed = new Map();
  const json = (id) => {
    if (!parsed.has(id)) parsed.set(id, JSON.parse(document.getElementById(id).textContent));
    return parsed.get(id);
  };
  const toRows = (columns) => {
    const names = Object.keys(columns);
    const count = names.length ? columns[names[0]].length : 0;
    return Array.from({ length: count }, (_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  };
  const setWidths = (view, width) => {
    if (typeof view.width === "number") view.width = width;
    for (const part of ["vconcat", "hconcat", "concat"]) (view[part] || []).forEach((child) => setWidths(child, width));
  };
  const fitted = (place, available) => {
    const body = json("data-" + place.dataset.chart);
    const spec = structuredClone(json("spec-" + place.dataset.spec));
    const fit = body.fit;
    const panels = (spec.concat || [0]).length;
    const across = Math.max(1, Math.min(fit.columns, panels, Math.floor(available / fit.min_px)));
    if (spec.concat) spec.columns = across;
    setWidths(spec, Math.max(narrowest, Math.floor(available / across) - fit.side_px));
    spec.datasets = Object.fromEntries(Object.entries(body.datasets).map(([name, data]) => [name, toRows(data)]));
    return spec;
  };
  const room = (place) => place.closest("[data-room]").clientWidth;

  async function draw(place) {
    const available = room(place);
    try {
      const old = drawn.get(place);
      const result = await vegaEmbed(place, fitted(place, available), {
        actions: false, ast: true, renderer: "svg", config, tooltip: { theme: "custom" }, mode: "vega-lite",
      });
      if (old) old.result.finalize();
      drawn.set(place, { result, available });
      place.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
      const focus = place.closest("section[id]").dataset.focus || "";
      if (focus) await setFocus(result.view, focus);
    } catch (error) {
      failures += 1;
      place.classList.add("failed");
      place.textContent = "This chart could not be drawn: " + error.message;
      console.error(place.dataset.chart, error);
    }
  }
  const setFocus = (view, key) => view.signal("focus", key).runAsync();

  async function drawAll() {
    const places = [...document.querySelectorAll("[data-chart]")];
    const seen = (place) => (place.closest("[hidden]") ? 1 : 0);
    places.sort((a, b) => seen(a) - seen(b));
    for (const place of places) {
      await draw(place);
      await new Promise((done) => setTimeout(done, 0));
    }
    root.dataset.errors = String(failures);
    root.dataset.ready = "true";
  }

  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      for (const [place, { available }] of drawn) if (Math.abs(available - room(place)) > 2) await draw(place);
    }, 200);
  });

  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const section = button.closest("section[id]");
      const on = button.getAttribute("aria-pressed") !== "true";
      section.querySelectorAll(".legend button").forEach((b) => b.setAttribute("aria-pressed", String(b === button && on)));
      section.dataset.focus = on ? button.dataset.key : "";
      section.querySelectorAll("[data-chart]").forEach((place) => {
        if (drawn.has(place)) setFocus(drawn.get(place).result.view, section.dataset.focus);
      });
    });
  });

  document.querySelectorAll('[role="tablist"]').forEach((list) => {
    const tabs = [...list.querySelectorAll('[role="tab"]')];
    const choose = (chosen) => tabs.forEach((tab) => {
      const on = tab === chosen;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !on;
    });
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => choose(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = tabs[(i + step + tabs.length) % tabs.length];
        choose(next);
        next.focus();
      });
    });
  });

  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.querySelectorAll("th[data-column]")];
    heads.forEach((head) => head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const column = Number(head.dataset.column);
      const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const [m, n] = [Number(x), Number(y)];
        if (x === "" || y === "") return (x === "" ? 1 : 0) - (y === "" ? 1 : 0);
        const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
        return descending ? -order : order;
      };
      const body = table.tBodies[0];
      [...body.rows].sort(compare).forEach((row) => body.append(row));
    }));
  });

  document.querySelectorAll("details[data-rows]").forEach((details) => {
    details.addEventListener("toggle", () => {
      const box = details.querySelector(".scroll");
      if (!details.open || box.firstChild) return;
      const body = json("data-" + details.dataset.rows);
      const table = box.appendChild(document.createElement("table"));
      table.createCaption().textContent = details.dataset.caption;
      const head = table.createTHead().insertRow();
      const names = Object.keys(body.columns);
      names.forEach((name) => {
        const th = head.appendChild(document.createElement("th"));
        th.scope = "col";
        th.textContent = body.columns[name];
      });
      const tbody = table.createTBody();
      const columns = body.datasets.rows;
      const count = columns[names[0]].length;
      for (let i = 0; i < count; i += 1) {
        const row = tbody.insertRow();
        names.forEach((name) => {
          const cell = row.insertCell();
          const got = columns[name][i];
          if (typeof got === "string") cell.className = "text";
          cell.textContent = got === null ? "–" : typeof got === "number" ? String(Number(got.toPrecision(4))) : got;
        });
      }
    });
  });

  drawAll();
})();
