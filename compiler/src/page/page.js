"use strict";
// Tables whose columns sort by a click on their name.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => {
        const cell = row.cells[column];
        const number = Number(cell.dataset.v);
        return { row, number: cell.dataset.v ? number : NaN, text: cell.textContent };
      });
      rows.sort((a, b) => {
        const order = Number.isNaN(a.number) || Number.isNaN(b.number)
          ? a.text.localeCompare(b.text, undefined, { numeric: true })
          : a.number < b.number ? -1 : a.number > b.number ? 1 : 0;
        return ascending ? order : -order;
      });
      body.replaceChildren(...rows.map((entry) => entry.row));
    });
  });
}
// Tables with a field that leaves the rows which have a text.
for (const table of document.querySelectorAll("table.filterable")) {
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = "Show modules with ";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "part of a name, kind or format";
  label.append(field);
  table.parentElement.before(label);
  let texts = null;
  field.addEventListener("input", () => {
    texts ??= [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    const wanted = field.value.trim().toLowerCase();
    for (const [row, text] of texts) row.hidden = !text.includes(wanted);
  });
}
// What a mark of a chart says, at once and on touch; the browser's own tooltips come late and not on all devices.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
const say = (event) => {
  const mark = event.target.closest(".chart path, .chart rect, .chart circle, .bar rect");
  const title = mark?.querySelector("title");
  if (title) {
    mark.dataset.tip = title.textContent;
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  tip.hidden = !mark?.dataset.tip;
  if (tip.hidden) return;
  tip.textContent = mark.dataset.tip;
  const margin = 12;
  const left = Math.min(event.clientX + margin, innerWidth - tip.offsetWidth - margin);
  const top = event.clientY + margin + tip.offsetHeight > innerHeight
    ? event.clientY - margin - tip.offsetHeight : event.clientY + margin;
  tip.style.left = `${Math.max(margin, left)}px`;
  tip.style.top = `${Math.max(0, top)}px`;
};
document.addEventListener("pointermove", say);
document.addEventListener("pointerdown", say);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
