"use strict";
// Tables sort by their headings; empty cells stay last in both directions.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => [row.cells[column].dataset.sort, row]);
      const numeric = keyed.every(([key]) => key === undefined || !isNaN(key));
      keyed.sort(([a], [b]) => {
        if (a === undefined || b === undefined) {
          return (a === undefined) - (b === undefined);
        }
        const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
        return ascending ? order : -order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

// What is drawn says its figure when it is pointed at or has the focus.
const tip = document.getElementById("tip");
function showTip(mark) {
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const place = mark.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = place.left + place.width / 2 - size.width / 2;
  const room = document.documentElement.clientWidth - size.width - 4;
  tip.style.left = `${Math.max(4, Math.min(left, room))}px`;
  const above = place.top - size.height - 8;
  tip.style.top = `${above > 4 ? above : place.bottom + 8}px`;
}
for (const mark of document.querySelectorAll("[data-tip]")) {
  mark.addEventListener("pointerenter", () => showTip(mark));
  mark.addEventListener("focus", () => showTip(mark));
  mark.addEventListener("pointerleave", () => { tip.hidden = true; });
  mark.addEventListener("blur", () => { tip.hidden = true; });
}

for (const map of document.querySelectorAll("svg.squares")) {
  const names = JSON.parse(map.dataset.names);
  const readout = document.getElementById(map.getAttribute("aria-describedby"));
  const chosen = map.querySelector(".chosen");
  const squares = new Map();
  for (const square of map.querySelectorAll("[data-value]")) {
    squares.set(`${square.getAttribute("x")},${square.getAttribute("y")}`, square);
  }
  let x = 0;
  let y = names.y.length - 1;
  function choose(column, row) {
    x = column;
    y = row;
    const value = squares.get(`${x},${y}`).dataset.value;
    readout.textContent = `${names.y[y]} and ${names.x[x]}: ${value}`;
    chosen.setAttribute("x", x);
    chosen.setAttribute("y", y);
    chosen.setAttribute("visibility", "visible");
  }
  map.addEventListener("pointermove", (event) => {
    const square = event.target.closest("[data-value]");
    if (square) choose(+square.getAttribute("x"), +square.getAttribute("y"));
  });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1],
                   ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(names.x.length - 1, x + step[0])),
           Math.max(0, Math.min(names.y.length - 1, y + step[1])));
  });
}
