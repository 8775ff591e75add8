// Choosing images: dropped, pasted, picked or photographed. A slot holds the files of one part of the question.

import { element } from "./results.js";

const NAMES = { "image/jpeg": "JPEG", "image/png": "PNG", "application/dicom": "DICOM" };
const ENDINGS = { "application/dicom": ".dcm,.dicom,.ima" }; // browsers seldom know what these are

// What the service accepts, for the dialogue of files and in words.
function kinds(accepts) {
  const known = accepts.filter((kind) => kind in NAMES);
  const dialogue = known.map((kind) => [kind, ENDINGS[kind]].filter(Boolean).join(",")).join(",");
  const names = known.map((kind) => NAMES[kind]);
  return [dialogue, `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`];
}

export class Slot {
  constructor({ name, title, many, accepts, onChange }) {
    const [dialogue, words] = kinds(accepts);
    Object.assign(this, { name, title, many, onChange, files: [] });
    this.input = element("input", { type: "file", accept: dialogue, class: "visually-hidden", id: `file-${name}` });
    this.input.multiple = many;
    const camera = element("input", { type: "file", accept: "image/*", capture: "environment", class: "visually-hidden", id: `camera-${name}` });
    for (const input of [this.input, camera]) {
      input.addEventListener("change", () => {
        if (input.files.length) this.take([...input.files]);
        input.value = "";
      });
    }
    this.shown = element("div");
    this.node = element("fieldset", { class: "slot" }, [
      element("legend", {}, [title]),
      element("p", { class: "hint" }, [many ? `Drop or paste images here, choose files or take a photo. ${words}, at most 10 MiB each.` : `Drop or paste an image here, choose a file or take a photo. ${words}, at most 10 MiB.`]),
      element("div", { class: "picks" }, [
        element("label", { class: "pick" }, [this.input, many ? "Choose images" : "Choose an image"]),
        element("label", { class: "pick" }, [camera, "Take a photo"]),
      ]),
      this.shown,
    ]);
    for (const kind of ["dragenter", "dragover"]) {
      this.node.addEventListener(kind, (event) => {
        event.preventDefault();
        this.node.classList.add("over");
      });
    }
    this.node.addEventListener("dragleave", () => this.node.classList.remove("over"));
    this.node.addEventListener("drop", (event) => {
      event.preventDefault();
      this.node.classList.remove("over");
      this.take([...event.dataTransfer.files]);
    });
  }

  take(files) {
    if (!files.length) return;
    this.files = this.many ? files : files.slice(0, 1);
    this.show();
    this.onChange(this);
  }

  clear() {
    this.files = [];
    this.show();
  }

  show() {
    for (const image of this.shown.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    this.shown.replaceChildren();
    if (this.files.length === 1) this.shown.append(preview(this.files[0]));
    if (this.files.length > 1) {
      const list = element("ul", { class: "thumbs" });
      for (const file of this.files) list.append(element("li", {}, [preview(file)]));
      this.shown.append(element("p", {}, [`${this.files.length} images`]), list);
    }
  }
}

function preview(file) {
  const image = element("img", { class: "preview", alt: `Your image ${file.name}`, src: URL.createObjectURL(file) });
  image.addEventListener("error", () => {
    image.replaceWith(element("p", {}, [`${file.name}: your browser cannot show this file.`]));
  });
  return image;
}

// The pixels of a file as the service sees them: upright. Null for what the browser cannot read.
export async function loaded(file) {
  const image = new Image();
  const address = URL.createObjectURL(file);
  image.src = address;
  try {
    await image.decode();
    return image;
  } catch {
    URL.revokeObjectURL(address);
    return null;
  }
}

export function pastedFiles(event) {
  return [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
}
