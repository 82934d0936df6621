// Keeps a page current: asks for it again and exchanges the parts marked data-refresh that have changed.
// All text is written by the server, so that the page says the same with and without this script.
const main = document.querySelector("main[data-refresh-ms]");
const connection = document.getElementById("connection");
const PERIOD_MS = Number(main.dataset.refreshMs);
const LIMIT_MS = 5000;

// What each part showed when it came; the page's own scripts may have changed it since.
const shown = new Map();
for (const part of document.querySelectorAll("[data-refresh]")) shown.set(part.id, part.innerHTML);

let timer = 0;
let lastAnswer = new Date();
let failures = 0;

async function refresh() {
  try {
    const answer = await fetch(location.href, {
      cache: "no-store",
      headers: { "X-Refresh": "1" },
      signal: AbortSignal.timeout(LIMIT_MS),
    });
    if (answer.redirected || answer.status === 401 || answer.status === 403) {
      location.reload(); // signed out
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    exchange(page);
    answered();
  } catch (error) {
    silent(error);
  }
  schedule();
}

function exchange(page) {
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const fresh = page.getElementById(part.id);
    if (fresh === null || fresh.innerHTML === shown.get(part.id)) continue;
    shown.set(part.id, fresh.innerHTML);
    const focused = [...part.querySelectorAll("a")].indexOf(document.activeElement);
    part.replaceChildren(...document.adoptNode(fresh).childNodes);
    // Or whoever goes by keyboard would be thrown back to the top with every cell.
    part.querySelectorAll("a")[focused]?.focus({ preventScroll: true });
  }
  for (const part of document.querySelectorAll("[data-refresh-old]")) {
    part.classList.toggle("old", page.getElementById(part.id).classList.contains("old"));
  }
}

function answered() {
  lastAnswer = new Date();
  if (failures > 1) {
    connection.hidden = true;
    connection.textContent = "";
    document.dispatchEvent(new Event("device-answers"));
  }
  failures = 0;
}

function silent(error) {
  failures += 1;
  if (failures !== 2) return; // once may be chance; said once, or a screen reader would repeat it
  const since = `${lastAnswer.toLocaleTimeString()} by this screen's clock`; // which need not be the device's
  connection.textContent =
    `The device does not answer. What this page shows is from ${since}; it goes on by itself when the device ` +
    `answers again. (${error.message})`;
  connection.hidden = false;
  document.dispatchEvent(new CustomEvent("device-silent", { detail: since }));
  shown.clear(); // so that everything is exchanged once it answers
}

function schedule() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, PERIOD_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
schedule();
