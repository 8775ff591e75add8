// Boxes around the conditions in a photo: drawn with a pointer, or added and moved with the keyboard by their numbers.

import { element, readable } from "./results.js";

const EDGES = ["x1", "y1", "x2", "y2"];

export class BoxEditor {
  constructor({ name, labels, image }) {
    Object.assign(this, { name, labels, image, boxes: [] });
    this.canvas = element("canvas", { class: "canvas-box", role: "img" });
    this.canvas.width = image.naturalWidth;
    this.canvas.height = image.naturalHeight;
    this.label = element("select", { id: `label-${name}` });
    for (const label of labels) this.label.append(element("option", { value: label }, [readable(label)]));
    this.list = element("ol", { class: "boxes" });
    const add = element("button", { type: "button", class: "plain" }, ["Add a box"]);
    add.addEventListener("click", () => this.addInTheMiddle());
    this.node = element("div", {}, [
      element("label", { class: "field", for: `label-${name}` }, ["Condition of the next box"]),
      this.label,
      " ",
      add,
      element("p", { class: "hint" }, ["Draw a box around each condition, or add one and set its edges in pixels."]),
      this.canvas,
      this.list,
    ]);
    this.followPointer();
    this.draw();
  }

  json() {
    return this.boxes.map(({ label, box }) => ({ label, box }));
  }

  followPointer() {
    let start = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      start = this.place(event);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (start) this.draw(spanned(start, this.place(event)));
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!start) return;
      const box = spanned(start, this.place(event));
      start = null;
      if (box[2] - box[0] >= 4 && box[3] - box[1] >= 4) this.add(box); // less is a slip, not a box
      else this.draw();
    });
    this.canvas.addEventListener("pointercancel", () => {
      start = null;
      this.draw();
    });
  }

  // A pointer's place in pixels of the upright photo.
  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * this.canvas.width;
    const y = ((event.clientY - frame.top) / frame.height) * this.canvas.height;
    return [Math.round(clamp(x, this.canvas.width)), Math.round(clamp(y, this.canvas.height))];
  }

  addInTheMiddle() {
    const [w, h] = [this.canvas.width, this.canvas.height];
    this.add([w * 0.45, h * 0.45, w * 0.55, h * 0.55].map(Math.round));
    this.list.lastElementChild.querySelector("input").focus();
  }

  add(box) {
    this.boxes.push({ label: this.label.value, box });
    this.listBoxes();
  }

  listBoxes() {
    this.list.replaceChildren();
    this.boxes.forEach((entry, number) => {
      const fields = EDGES.map((edge, k) => {
        const input = element("input", { type: "number", min: 0, max: k % 2 ? this.canvas.height : this.canvas.width, value: entry.box[k] });
        input.addEventListener("input", () => {
          entry.box[k] = Number(input.value);
          this.draw();
        });
        return element("label", {}, [`${number}: ${edge}`, input]);
      });
      const remove = element("button", { type: "button", class: "plain", "aria-label": `Remove box ${number}` }, ["Remove"]);
      remove.addEventListener("click", () => {
        this.boxes.splice(number, 1);
        this.listBoxes();
      });
      this.list.append(element("li", {}, [element("strong", {}, [`${number} ${readable(entry.label)}`]), ...fields, remove]));
    });
    this.draw();
  }

  draw(open = null) {
    const context = this.canvas.getContext("2d");
    context.drawImage(this.image, 0, 0);
    const unit = Math.max(this.canvas.width, this.canvas.height) / 400;
    this.boxes.forEach(({ box }, number) => drawBox(context, box, String(number), "#ffe800", unit));
    if (open) drawBox(context, open, "", "#ffffff", unit);
    this.canvas.setAttribute("aria-label", `Photo with ${this.boxes.length} boxes`);
  }
}

export function drawBox(context, box, text, colour, unit) {
  const [x1, y1, x2, y2] = box;
  for (const [ink, width] of [["#000000", 3 * unit], [colour, 1.5 * unit]]) {
    context.strokeStyle = ink;
    context.lineWidth = width;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  context.font = `bold ${11 * unit}px sans-serif`;
  context.lineWidth = 3 * unit;
  context.strokeStyle = "#000000";
  context.strokeText(text, x1, Math.max(11 * unit, y1 - 3 * unit));
  context.fillStyle = colour;
  context.fillText(text, x1, Math.max(11 * unit, y1 - 3 * unit));
}

const clamp = (value, most) => Math.min(Math.max(value, 0), most);
const spanned = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
