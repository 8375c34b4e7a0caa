// Privacy mask that is drawn on the picture, as the file that `edgesem send --mask` reads.

import { rounded } from "./sketch.js";

const NEAR = 0.02;
const MOST_AREAS = 64;
const MOST_POINTS = 256;

// The file of areas, each {name, points}; those of fewer than three points are no areas yet.
export function maskText(areas) {
  return areas.filter(({ points }) => points.length >= 3).map(({ name, points }) =>
    `[[area]]\nname = ${JSON.stringify(name)}\npoints = [${points.map(([x, y]) => `[${x}, ${y}]`).join(", ")}]\n`).join("\n");
}

// The areas in such a file; raises an error for what this page would not write.
export function maskAreas(text) {
  return text.split("[[area]]").slice(1).map((part, index) => {
    const name = /^\s*name\s*=\s*(".*")\s*(?:#.*)?$/m.exec(part);
    const points = /^\s*points\s*=\s*(\[[^a-zA-Z"=]*\])/m.exec(part);
    const parsed = points && JSON.parse(points[1].replace(/,(\s*\])/g, "$1"));
    const good = Array.isArray(parsed) && parsed.length >= 3 && parsed.length <= MOST_POINTS &&
      parsed.every((point) => point.length === 2 && point.every((share) => share >= 0 && share <= 1));
    if (!good) throw new Error(`area ${index + 1}: 3 to ${MOST_POINTS} points [x, y] of 0 to 1`);
    return { name: name ? JSON.parse(name[1]) : `area ${index + 1}`, points: parsed };
  });
}

export class Mask {
  constructor(root, { say, redraw }) {
    [this.root, this.say, this.redraw, this.holds, this.drawn] = [root, say, redraw, false, new Map()];
    const find = (selector) => root.querySelector(selector);
    [this.text, this.save, this.on] = [find("textarea"), find(".mask-save"), find(".mask-on")];
    this.text.addEventListener("change", () => this.read());
    find(".mask-next").addEventListener("click", () => this.next());
    find(".mask-undo").addEventListener("click", () => this.undo());
    find(".mask-clear").addEventListener("click", () => this.set([]));
    find(".mask-copy").addEventListener("click", () => this.copy());
    this.clear(null);
  }
  // What was drawn for a camera stays as long as the page.
  clear(name) {
    this.name = name;
    this.set(this.drawn.get(name) ?? []);
  }
  draw(stream) {
    this.on.hidden = !stream.state?.masked;
  }
  // Tool of the sketch: a press near a point takes it, elsewhere it sets one.
  press(x, y) {
    const near = this.list.flatMap(({ points }) => points).find((point) => Math.hypot(point[0] - x, point[1] - y) < NEAR);
    this.held = near ?? [x, y];
    if (near) return;
    if (!this.list.length) this.next();
    if (this.list.at(-1).points.length < MOST_POINTS) this.list.at(-1).points.push(this.held);
  }
  drag(x, y) {
    [this.held[0], this.held[1]] = [rounded(x), rounded(y)];
  }
  release(x, y) {
    this.drag(x, y);
    this.write();
  }
  areas() {
    return this.list.map(({ points }) => points).filter((points) => points.length);
  }
  next() {
    if (this.list.length && !this.list.at(-1).points.length) return;
    if (this.list.length < MOST_AREAS) this.list.push({ name: `area ${this.list.length + 1}`, points: [] });
  }
  undo() {
    while (this.list.length && !this.list.at(-1).points.length) this.list.pop();
    this.list.at(-1)?.points.pop();
    this.write();
  }
  set(list) {
    this.list = list;
    this.write();
  }
  write() {
    this.drawn.set(this.name, this.list);
    this.text.value = maskText(this.list);
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = this.save.href = URL.createObjectURL(new Blob([this.text.value], { type: "application/toml" }));
    this.root.querySelectorAll(".needs-mask").forEach((one) => (one.hidden = !this.text.value));
    this.redraw();
  }
  read() {
    try {
      this.set(maskAreas(this.text.value));
      this.say("");
    } catch (error) {
      this.say(error.message, true);
    }
  }
  async copy() {
    try {
      await navigator.clipboard.writeText(this.text.value);
    } catch { // a page without TLS may not, but from what is selected
      this.text.select();
      document.execCommand("copy");
    }
    this.say("copied");
  }
}
