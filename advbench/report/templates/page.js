"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
const element = (tag, text, parent) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};
const larger = (a, b) => {
  if (a === b) return 0;
  if (a === null || a === "") return 1;
  if (b === null || b === "") return -1;
  return a < b ? -1 : 1;
};

// Turn the head of a column into a button that sorts; order(place, ascending) does the sorting.
const sortable = (head, place, order) => {
  const button = element("button", head.textContent.trim());
  button.type = "button";
  head.replaceChildren(button);
  head.setAttribute("aria-sort", "none");
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    order(place, up);
  });
};

for (const table of all("table.sort")) {
  const value = (row, place) => {
    const cell = row.cells[place];
    const given = cell.dataset.v;
    if (given === undefined) return cell.textContent.trim();
    return given === "" ? null : Number(given);
  };
  all("thead th", table).forEach((head, place) => sortable(head, place, (column, up) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      return x === null || y === null ? larger(x, y) : up ? larger(x, y) : larger(y, x);
    });
    body.append(...rows);
  }));
}

// The slider between the original and the adversarial image.
document.addEventListener("input", (event) => {
  const range = event.target;
  if (range.matches(".slide")) range.closest(".compare").style.setProperty("--at", `${range.value}%`);
  if (range.matches(".zoom")) range.closest("dialog").style.setProperty("--zoom", range.value);
});

const zoom = one("zoom");
for (const button of all("button.enlarge")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const [before, after] = all("img", button.closest(".compare"));
    const [under, over] = all("img", zoom);
    under.src = before.src;
    over.src = after.src;
    under.alt = before.alt;
    over.alt = after.alt;
    one("zoom-title").textContent = button.dataset.title;
    zoom.showModal();
  });
}
if (zoom) one("zoom-close").addEventListener("click", () => zoom.close());

// One row an image: filters, sorting and pages.
const source = one("rows");
if (source) {
  const data = JSON.parse(source.textContent);
  const names = [...data.text, ...data.number];
  const count = data.columns[0].length;
  const texts = data.text.length;
  const at = (place, row) => {
    const value = data.columns[place][row];
    return place < texts ? data.texts[value] : value;
  };
  const table = one("images");
  const filters = one("filters");
  const perPage = 50;
  let order = [...Array(count).keys()];
  let page = 0;
  const chosen = new Map();
  const labelled = (name, control) => {
    const label = element("label", name, filters);
    label.append(control);
    control.addEventListener("input", () => { page = 0; show(); });
    return control;
  };
  data.text.forEach((name, place) => {
    if (name === "sample") return;
    const codes = [...new Set(data.columns[place])];
    if (codes.length < 2) return;
    const select = labelled(name, document.createElement("select"));
    element("option", "all", select).value = "";
    codes.map((code) => [data.texts[code], code]).sort((a, b) => larger(a[0], b[0]))
      .forEach(([text, code]) => { element("option", text, select).value = code; });
    chosen.set(place, select);
  });
  const search = labelled("sample contains", document.createElement("input"));
  search.type = "search";
  const most = (name) => {
    const input = labelled(`${name} at most`, document.createElement("input"));
    input.type = "number";
    input.step = "any";
    return [names.indexOf(name), input];
  };
  const limits = [most("F1"), most("s/image")];
  const sample = names.indexOf("sample");
  const wanted = (row) => {
    for (const [place, select] of chosen) {
      if (select.value !== "" && data.columns[place][row] !== Number(select.value)) return false;
    }
    for (const [place, input] of limits) {
      const value = data.columns[place][row];
      if (input.value !== "" && (value === null || value > Number(input.value))) return false;
    }
    return !search.value || at(sample, row).toLowerCase().includes(search.value.toLowerCase());
  };
  const head = element("tr", undefined, table.tHead);
  names.forEach((name, place) => {
    const cell = element("th", name, head);
    cell.scope = "col";
    if (place >= texts) cell.className = "n";
    sortable(cell, place, (column, up) => {
      order.sort((a, b) => {
        const [x, y] = [at(column, a), at(column, b)];
        return x === null || y === null ? larger(x, y) : up ? larger(x, y) : larger(y, x);
      });
      page = 0;
      show();
    });
  });
  const show = () => {
    const rows = order.filter(wanted);
    const pages = Math.max(1, Math.ceil(rows.length / perPage));
    page = Math.min(Math.max(page, 0), pages - 1);
    table.tBodies[0].replaceChildren(...rows.slice(page * perPage, (page + 1) * perPage).map((row) => {
      const line = element("tr");
      names.forEach((name, place) => {
        const value = at(place, row);
        const cell = element("td", undefined, line);
        if (place < texts) element("bdi", value, cell);
        else { cell.className = "n"; cell.textContent = value === null ? "–" : value; }
      });
      return line;
    }));
    one("count").textContent = `${rows.length} of ${count} rows, page ${page + 1} of ${pages}`;
    one("previous").disabled = page === 0;
    one("next").disabled = page === pages - 1;
  };
  one("previous").addEventListener("click", () => { page -= 1; show(); });
  one("next").addEventListener("click", () => { page += 1; show(); });
  one("explorer").hidden = false;
  show();
}
