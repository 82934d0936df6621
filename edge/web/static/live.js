// The live picture: asked for again when it breaks off, given up while nobody looks, never old without saying so.
const picture = document.getElementById("picture");
const note = document.getElementById("old-note");
const RETRY_MS = 3000;
let retry = 0;
let attempt = 0;

const image = () => picture.querySelector("img");

function start() {
  clearTimeout(retry);
  const shown = image();
  if (shown === null || document.hidden) return;
  attempt += 1;
  const url = new URL(shown.dataset.source ?? shown.src, location.href);
  shown.dataset.source = url.pathname;
  url.searchParams.set("attempt", attempt); // or the browser would show what it had
  shown.src = url.href;
}

function stop() {
  clearTimeout(retry);
  const shown = image();
  if (shown === null) return;
  shown.dataset.source ??= new URL(shown.src, location.href).pathname;
  shown.removeAttribute("src"); // closes the stream: the device draws for nobody
}

// Errors of an image do not bubble; they are seen on the way down.
picture.addEventListener("error", () => {
  clearTimeout(retry);
  retry = setTimeout(start, RETRY_MS);
}, true);
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
document.addEventListener("device-answers", start);
document.addEventListener("device-silent", (event) => {
  picture.classList.add("old");
  note.textContent = `Not live: the device has not answered since ${event.detail}.`;
});
