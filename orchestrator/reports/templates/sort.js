for (const head of document.querySelectorAll("table.sortable th")) {
  head.tabIndex = 0;
  const sort = () => {
    const body = head.closest("table").tBodies[0];
    const place = head.cellIndex;
    const downwards = head.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[place].dataset.key;
    const order = (a, b) => (head.dataset.kind === "text" ? key(a).localeCompare(key(b)) : key(a) - key(b));
    const rows = [...body.rows].sort((a, b) => (downwards ? order(b, a) : order(a, b)));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
    body.append(...rows);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
