const charts = () => [...document.querySelectorAll(".chart, .bar")].map((chart) => {
  const { width, height } = chart.getBoundingClientRect();
  return { width, height, points: chart.querySelectorAll(".point").length, segments: chart.querySelectorAll(".segment").length };
});
const overlaps = () => {
  const found = [];
  for (const chart of document.querySelectorAll(".chart")) {
    const ticks = [...chart.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    ticks.forEach(([a, first], index) => ticks.slice(index + 1).forEach(([b, second]) => {
      if (first.left < second.right && second.left < first.right && first.top < second.bottom && second.top < first.bottom) {
        found.push([a, b]);
      }
    }));
  }
  return found;
};
const outside = (width) => [...document.querySelectorAll("body *")].filter((element) => {
  if (element.closest(".scroll, .defs, .tip, script")) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.left < -0.5 || box.right > width + 0.5);
}).map((element) => element.tagName + " " + element.textContent.slice(0, 40));
const strayed = () => [...document.querySelectorAll(".point path, .segment")].filter((mark) => {
  const box = mark.getBoundingClientRect(), chart = mark.closest(".chart, .bar").getBoundingClientRect();
  return box.left < chart.left - 6 || box.right > chart.right + 6 || box.top < chart.top - 6 || box.bottom > chart.bottom + 6;
}).length;
const light = (color) => {
  const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const paper = getComputedStyle(document.body).backgroundColor;
const style = (query, name) => { const found = document.querySelector(query); return found ? getComputedStyle(found)[name] : null; };
const texts = ["body", "figcaption", "thead th", ".axis"].map((query) => style(query, "color"))
  .concat(style(".tick", "fill")).filter((color) => color).map((color) => ratio(color, paper));
const marks = [...document.querySelectorAll(".point path")].map((mark) => ratio(getComputedStyle(mark).fill, paper));
const wide = { charts: charts(), overlaps: overlaps(), outside: outside(innerWidth), strayed: strayed() };
document.documentElement.style.width = "1000px";
const scrolled = [...document.querySelectorAll("#bytes .scroll")].filter((table) => table.scrollWidth > table.clientWidth).length;
document.documentElement.style.width = "400px";
const narrow = { charts: charts(), overlaps: overlaps(), outside: outside(400), strayed: strayed() };
const table = document.querySelector("#modules table");
const first = () => table.tBodies[0].rows[0].cells[table.tHead.rows[0].cells.length - 1].textContent;
const button = [...table.querySelectorAll("thead button")].at(-1);
button.click();
const lowest = first();
button.click();
const highest = first();
const sorted = table.querySelector("[aria-sort]").getAttribute("aria-sort");
const field = document.querySelector(".filter input");
field.value = "O_PROJ";
field.dispatchEvent(new Event("input"));
const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
const mark = document.querySelector(".point path");
mark?.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
const tip = document.querySelector(".tip").textContent;
return { faults, scrolled, paper: light(paper), texts: Math.min(...texts), marks: Math.min(21, ...marks), wide, narrow, lowest, highest, sorted, shown, tip };
