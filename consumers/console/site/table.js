// Tables whose rows are kept by a key, so that a figure that changes moves neither focus nor selection.
import { el, set, setText } from "./dom.js";
import { share } from "./words.js";

// A column: `head`; and `text(row)`, or `meter(row)`: [value, most, text], or `node(row)`, made once for a row, with
// `change(cell, row)` where it changes.
export function table(name, columns, { empty = "Nothing here." } = {}) {
  const body = el("tbody", { role: "rowgroup" });
  const heads = columns.map(({ head, kind }) => el("th", { scope: "col", role: "columnheader", class: kind }, head));
  const grid = el("table", { role: "table", "aria-label": name },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)), body);
  const frame = el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `${name}, scrolls` }, grid);
  const nothing = el("p", { class: "soft" }, empty);
  const rows = new Map();
  return {
    element: el("div", {}, frame, nothing),
    show: (found, keyOf) => {
      set(frame, "hidden", found.length === 0);
      set(nothing, "hidden", found.length > 0);
      const wanted = new Map(found.map((row) => [keyOf(row), row]));
      for (const [key, { line }] of rows) if (!wanted.has(key) && rows.delete(key)) line.remove();
      for (const [key, row] of wanted) {
        if (!rows.has(key)) rows.set(key, lineOf(row, columns));
        rows.get(key).cells.forEach((cell, at) => fill(cell, columns[at], row));
      }
      [...wanted.keys()].forEach((key, at) => {
        const { line } = rows.get(key);
        if (body.children[at] !== line) body.insertBefore(line, body.children[at] ?? null);
      });
    },
  };
}

function lineOf(row, columns) {
  const cells = columns.map(({ head, kind, node, meter }) => el(
    "td", { role: "cell", "data-head": head, class: kind }, node ? node(row) : meter ? meterCell(head) : null,
  ));
  return { cells, line: el("tr", { role: "row" }, cells) };
}

function fill(cell, { text, meter, node, change }, row) {
  if (node) return change?.(cell, row);
  if (text) return setText(cell, text(row));
  const [value, most, told] = meter(row);
  const [bar, label] = cell.firstChild.children;
  set(bar, "max", most || 1);
  set(bar, "value", Math.min(value, most || 1));
  setText(label, told ?? share(most ? value / most : 0));
}

const meterCell = (head) => el("span", { class: "meter" }, el("progress", { "aria-label": head }), el("span", {}));
