// Lets an image be dropped where it can be chosen, and shows which one it is before it is sent.
const drop = document.getElementById("drop");
if (drop !== null) {
  const input = document.getElementById("image");
  const chosen = document.getElementById("chosen");
  let preview = null;

  document.getElementById("drop-hint").hidden = false;

  const over = (on) => (event) => {
    event.preventDefault(); // or the browser would leave the page and open the file
    drop.classList.toggle("over", on);
  };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length !== 1) {
      chosen.textContent = "Drop one image file at a time.";
      return;
    }
    input.files = event.dataTransfer.files;
    show();
  });
  input.addEventListener("change", show);

  function show() {
    const file = input.files[0];
    if (preview !== null) {
      URL.revokeObjectURL(preview.src);
      preview.remove();
      preview = null;
    }
    // The device would cut a larger one off while it comes.
    const tooLarge = file && file.size > Number(input.dataset.maxMb) * 1e6;
    input.setCustomValidity(tooLarge ? `Larger than ${input.dataset.maxMb} MB; save it smaller.` : "");
    chosen.textContent = file ? `${file.name}, ${(file.size / 1e6).toFixed(1)} MB` : "";
    if (!file) return;
    preview = new Image();
    preview.alt = "";
    preview.addEventListener("error", () => preview?.remove()); // a TIFF, which browsers do not show
    preview.src = URL.createObjectURL(file);
    drop.append(preview);
  }
  show(); // the browser may have kept the choice over a reload
}
