function sortTable(head, order) {
  const body = head.closest("table").tBodies[0];
  const place = head.cellIndex;
  const key = (row) => row.cells[place].dataset.key;
  const compare = (a, b) => (head.dataset.kind === "text" ? key(a).localeCompare(key(b)) : key(a) - key(b));
  const rows = [...body.rows].sort((a, b) => (order === "descending" ? compare(b, a) : compare(a, b)));
  for (const other of head.parentNode.cells) { other.removeAttribute("aria-sort"); delete other.dataset.chosen; }
  head.setAttribute("aria-sort", order);
  head.dataset.chosen = "";
  body.append(...rows);
}
function chosenHead(event) {
  const head = event.target.closest("table.sortable thead th");
  if (head) sortTable(head, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
}
document.addEventListener("click", chosenHead);
document.addEventListener("keydown", (event) => { if (event.key === "Enter") chosenHead(event); });
for (const head of document.querySelectorAll("table.sortable thead th")) head.tabIndex = 0;
