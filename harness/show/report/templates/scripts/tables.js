/* Tables: sorted by their columns, filtered by name, walked through with the arrow keys. */

(function board() {
  const table = byId("board");
  const bodies = [...table.tBodies];
  const models = bodies.map((body) => [...body.querySelectorAll("tr.model")]);
  const all = models.flat();
  const status = byId("board-status");
  const together = byId("together");
  const filter = byId("model-filter");
  const name = (row) => row.cells[0].querySelector(".who").textContent;
  let column = null;
  let descending = true;

  /** What each row is sorted by: its first place, its name, or its number, which it may lack. */
  function keys(rows) {
    if (column === null) return new Map(rows.map((row) => [row, all.indexOf(row)]));
    if (column < 0) return new Map(rows.map((row) => [row, name(row)]));
    return new Map(rows.map((row) => {
      const said = row.cells[column + 1].dataset.key;
      return [row, said === undefined ? null : Number(said)];
    }));
  }

  /** Rows without a number come last, whichever way the others go. */
  function sorted(rows) {
    const key = keys(rows);
    const turn = column !== null && descending ? -1 : 1;
    return [...rows].sort((one, other) => {
      const [a, b] = [key.get(one), key.get(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a === "string") return turn * a.localeCompare(b, "en", { numeric: true });
      return turn * (a - b);
    });
  }

  function arrange() {
    const groups = together.checked ? [all] : models;
    groups.forEach((rows, place) => bodies[place].append(...sorted(rows)));
    table.classList.toggle("together", together.checked);
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of all) {
      row.hidden = !name(row).toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    for (const body of bodies) {
      const section = body.querySelector("tr.section");
      section.hidden = together.checked || !body.querySelector("tr.model:not([hidden])");
    }
    status.textContent = wanted ? `${number(shown)} of ${counted(all.length, "model")}` : "";
  }

  function sortBy(button) {
    const header = button.closest("th");
    const next = Number(button.dataset.column);
    const first = next >= 0 && header.dataset.better === "high";
    descending = column === next ? !descending : first;
    column = next;
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    arrange();
  }

  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button.sort");
    if (button) sortBy(button);
  });
  together.addEventListener("change", arrange);
  filter.addEventListener("input", arrange);
})();

/* One stop of the Tab key a table; arrows, Home and End inside. */
(function grids() {
  const focusable = (cell) => cell.querySelector("button") || cell;

  /** The cells of a table as they lie: one that spans columns lies in each of them. */
  function layout(table) {
    const rows = [];
    [...table.rows].forEach((row, y) => {
      rows[y] = rows[y] || [];
      let x = 0;
      for (const cell of row.cells) {
        while (rows[y][x]) x += 1;
        for (let down = 0; down < cell.rowSpan; down += 1) {
          rows[y + down] = rows[y + down] || [];
          for (let right = 0; right < cell.colSpan; right += 1) rows[y + down][x + right] = cell;
        }
        x += cell.colSpan;
      }
    });
    return rows.filter((cells) => cells.some((cell) => cell.offsetParent !== null));
  }

  function enter(table, cell) {
    const before = table.querySelector("[tabindex='0']");
    if (before) before.setAttribute("tabindex", "-1");
    focusable(cell).setAttribute("tabindex", "0");
  }

  function move(table, from, key) {
    const rows = layout(table);
    const row = rows.findIndex((cells) => cells.includes(from));
    const first = rows[row].indexOf(from);
    const last = rows[row].lastIndexOf(from);
    const beside = { ArrowLeft: first - 1, ArrowRight: last + 1, Home: 0, End: rows[row].length - 1 }[key];
    if (beside !== undefined) return rows[row][beside];
    const step = key === "ArrowDown" ? 1 : -1;
    for (let y = row + step; y >= 0 && y < rows.length; y += step) {
      const cell = rows[y][first];
      const isHeading = cell && cell.scope === "rowgroup";
      if (cell && cell !== from && !isHeading) return cell;
    }
    return undefined;
  }

  const keys = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]);
  for (const table of document.querySelectorAll("table.grid")) {
    for (const button of table.querySelectorAll("thead button")) button.setAttribute("tabindex", "-1");
    const first = table.querySelector("thead button") || table.querySelector("td");
    if (first) first.setAttribute("tabindex", "0");
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td, th");
      if (!cell || !keys.has(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const next = move(table, cell, event.key);
      if (!next) return;
      enter(table, next);
      focusable(next).focus();
    });
    table.addEventListener("pointerdown", (event) => {
      const cell = event.target.closest("td, th");
      if (cell) enter(table, cell);
    });
  }
})();
