// Keeps the part of the page that changes up to date: it asks for it again, and is told when nothing has changed.
const EVERY_MS = 2000;
const live = document.getElementById("live");
const connection = document.getElementById("connection");
let version = "";

// What a reader has scrolled, sorted or folded stays as it is.
function positions() {
  return [...live.querySelectorAll(".wide, .tall, .log")].map((box) => {
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
    return { top: box.scrollTop, left: box.scrollLeft, atEnd: atEnd && "tail" in box.dataset };
  });
}

function restore(before) {
  [...live.querySelectorAll(".wide, .tall, .log")].forEach((box, place) => {
    const was = before[place];
    if (!was) return;
    box.scrollTop = was.atEnd ? box.scrollHeight : was.top;
    box.scrollLeft = was.left;
  });
}

function sorted() {
  return [...live.querySelectorAll("table.sortable")].map((table) => {
    const head = table.querySelector("[data-chosen]");
    return head && { place: head.cellIndex, order: head.getAttribute("aria-sort") };
  });
}

function sortAgain(before) {
  [...live.querySelectorAll("table.sortable")].forEach((table, place) => {
    if (before[place]) sortTable(table.tHead.rows[0].cells[before[place].place], before[place].order);
  });
}

async function refresh() {
  let answer;
  try {
    answer = await fetch(live.dataset.live, { headers: version ? { "If-None-Match": version } : {} });
  } catch {
    connection.textContent = "no answer from the server; trying again";
    connection.className = "lost";
    return;
  }
  connection.textContent = "";
  connection.className = "";
  if (answer.status !== 200) return;
  const html = await answer.text();
  version = answer.headers.get("ETag");
  const scrolled = positions(), order = sorted();
  const folded = [...live.querySelectorAll("details")].map((part) => part.open);
  live.innerHTML = html;
  [...live.querySelectorAll("details")].forEach((part, place) => { part.open = folded[place] ?? part.open; });
  sortAgain(order);
  restore(scrolled);
}

for (const log of document.querySelectorAll("[data-tail]")) log.scrollTop = log.scrollHeight;
if (live) setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
