"use strict";
// The page is complete without this: it only adds sorting, filters, copying and the theme.
(() => {
  const make = (name, attributes, ...content) => {
    const element = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.append(...content);
    return element;
  };

  const keep = (value) => {
    try { localStorage.setItem("dlsys-bench-theme", value); } catch { /* not available */ }
  };
  const kept = () => {
    try { return localStorage.getItem("dlsys-bench-theme"); } catch { return null; }
  };
  const root = document.documentElement;
  if (kept()) root.dataset.theme = kept();
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = make("button", { type: "button", class: "theme" });
  const label = () => { theme.textContent = dark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep(root.dataset.theme);
    label();
  });
  label();
  document.querySelector("header").prepend(theme);

  // Numbers are sorted by value, and cells without a figure come last.
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replaceAll(",", ""));
    return text === "-" || text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  document.querySelectorAll(".sheet table").forEach((table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const sort = (column, direction) => {
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      heads[column].setAttribute("aria-sort", direction);
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === null || y === null) return compare(x, y);
        return direction === "ascending" ? compare(x, y) : compare(y, x);
      });
      body.append(...rows);
    };
    const other = { ascending: "descending", descending: "ascending" };
    const select = make("select", {}, make("option", { value: "" }, "as given"));
    heads.forEach((head, column) => {
      const span = head.querySelector("span");
      if (!span || !span.textContent) return;
      const button = make("button", { type: "button" }, span.textContent);
      button.addEventListener("click", () => {
        sort(column, other[head.getAttribute("aria-sort")] || "ascending");
      });
      span.replaceWith(button);
      select.append(make("option", { value: String(column) }, button.textContent));
    });
    select.addEventListener("change", () => {
      if (select.value) sort(Number(select.value), "ascending");
    });
    if (body.rows.length < 4) return;
    const input = make("input", { type: "search", placeholder: "part of a row" });
    const count = make("span", { role: "status" });
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      [...body.rows].forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      });
      count.textContent = words.length ? `${shown} of ${body.rows.length} rows` : "";
    });
    table.before(make("div", { class: "controls" },
      make("label", {}, "Filter ", input), make("label", {}, "Sort by ", select), count));
  });

  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* not allowed */ }
    const area = make("textarea", {});
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  document.querySelectorAll("dl.commands code").forEach((code) => {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    button.setAttribute("aria-label", `Copy ${code.textContent}`);
    button.addEventListener("click", async () => {
      button.textContent = await copy(code.textContent) ? "Copied" : "Select and copy";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.after(button);
  });
})();
