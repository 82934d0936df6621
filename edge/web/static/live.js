// The live picture: asked for again when it breaks off, given up while nobody looks, never old without saying so.
const picture = document.getElementById("picture");
const note = document.getElementById("old-note");
const RETRY_MS = 3000;
const LOOK_MS = 1500;
// So often in a row unchanged: no camera's noise is twice the same.
const STILL = 3;
// As many pixels of the middle as show a change.
const SIDE = 64;

let retry = 0;
let attempt = 0;
let before = "";
let still = 0;

const sample = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
sample.canvas.width = sample.canvas.height = SIDE;

const image = () => picture.querySelector("img");

function start() {
  clearTimeout(retry);
  const shown = image();
  if (shown === null || document.hidden) return;
  attempt += 1;
  const url = new URL(shown.dataset.source ??= shown.src);
  url.searchParams.set("attempt", attempt); // or the browser would show what it had
  shown.src = url.href;
}

function stop() {
  clearTimeout(retry);
  const shown = image();
  if (shown === null) return;
  shown.dataset.source ??= shown.src;
  shown.removeAttribute("src"); // closes the stream: the device draws for nobody
}

// A browser does not tell that a stream has ended: it shows the last picture for ever.
function look() {
  const shown = image();
  if (shown === null || document.hidden || !shown.naturalWidth || note.textContent) {
    still = 0;
    return;
  }
  const left = (shown.naturalWidth - SIDE) / 2;
  const top = (shown.naturalHeight - SIDE) / 2;
  sample.drawImage(shown, left, top, SIDE, SIDE, 0, 0, SIDE, SIDE);
  const now = sample.getImageData(0, 0, SIDE, SIDE).data.join();
  still = now === before ? still + 1 : 0;
  before = now;
  picture.classList.toggle("still", still >= STILL);
  if (still > 0 && still % STILL === 0) start();
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
setInterval(look, LOOK_MS);
