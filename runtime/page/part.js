// A part of the picture that is chosen by dragging over it, or by writing it down, and what can be asked for it.

import { bytes, pathOf, tell } from "./format.js";
import { rounded } from "./sketch.js";

const SMALLEST = 1 / 64;
const DETAIL_BYTES = 12000;

export class Part {
  // `ask(path, what)` asks the receiver, `say(text)` shows a message.
  constructor(root, { ask, say, redraw }) {
    [this.root, this.ask, this.say, this.redraw, this.holds] = [root, ask, say, redraw, true];
    const find = (selector) => root.querySelector(selector);
    [this.box, this.detail, this.figure] = [find(".box"), find(".ask-detail"), find(".detail")];
    [this.image, this.caption, this.save] = [find(".detail img"), find(".detail-text"), find(".detail-save")];
    this.box.addEventListener("change", () => this.read());
    this.detail.addEventListener("click", () => this.askDetail());
    find(".ask-region").addEventListener("click", () => this.send("region", "this part is sent finer than the rest"));
    find(".ask-roi").addEventListener("click", () => this.send("roi", "only this part is sent"));
    find(".ask-whole").addEventListener("click", () => this.end());
    this.clear(null);
  }
  clear(name) {
    [this.name, this.corners, this.request, this.shown, this.box.value] = [name, null, null, "", ""];
    this.figure.hidden = true;
    this.image.removeAttribute("src");
    this.enable();
  }
  // Tool of the sketch.
  press(x, y) {
    [this.corners, this.start] = [null, [x, y]];
    this.enable();
  }
  drag(x, y) {
    const [left, top] = [Math.min(x, this.start[0]), Math.min(y, this.start[1])];
    const [right, bottom] = [Math.max(x, this.start[0]), Math.max(y, this.start[1])];
    this.corners = right - left < SMALLEST || bottom - top < SMALLEST ? null : [left, top, right, bottom].map(rounded);
    this.enable();
  }
  release() {}
  areas() {
    if (!this.corners) return [];
    const [left, top, right, bottom] = this.corners;
    return [[[left, top], [right, top], [right, bottom], [left, bottom]]];
  }
  get shares() {
    const [left, top, right, bottom] = this.corners;
    return [left, top, rounded(right - left), rounded(bottom - top)];
  }
  enable() {
    this.root.querySelectorAll(".needs-part").forEach((button) => (button.disabled = !this.corners));
    if (this.corners) this.box.value = this.shares.join(", ");
    else if (document.activeElement !== this.box) this.box.value = "";
    this.detail.disabled ||= !this.canDetail;
  }
  read() {
    const [left, top, width, height, ...more] = this.box.value.split(",").map(Number);
    const fits = !more.length && left >= 0 && top >= 0 && width >= SMALLEST && height >= SMALLEST &&
      left + width <= 1.0005 && top + height <= 1.0005;
    this.corners = fits ? [left, top, rounded(left + width), rounded(top + height)] : null;
    if (!fits && this.box.value) this.say("four shares of the picture: left, top, width, height, such as 0.25, 0.2, 0.5, 0.5", true);
    this.enable();
    this.redraw();
  }
  // What the sender can do, and the detail that came last.
  draw(stream) {
    this.canDetail = Boolean(stream.state?.detail);
    this.detail.hidden = !this.canDetail;
    this.enable();
    const { detail } = stream;
    const key = detail ? `${detail.request}-${detail.number}` : "";
    if (!detail || detail.request !== this.request || key === this.shown) return;
    this.shown = key;
    this.image.src = this.save.href = `${pathOf(this.name)}.jpg?detail=${key}`;
    this.save.download = `${this.name.replaceAll("/", "_")}-${detail.frame}-detail.jpg`;
    this.image.alt = `Detail of ${this.name}`;
    tell(this.caption, `${detail.width}×${detail.height}, ${bytes(detail.size_bytes)}`);
    this.figure.hidden = false;
    this.say("detail is here");
  }
  async askDetail() {
    const answer = await this.ask("detail", { roi: this.shares, size_bytes: DETAIL_BYTES });
    if (!answer) return;
    this.request = answer.request;
    this.say("detail asked for");
  }
  async send(kind, text) {
    if (await this.ask("ask", { kind, box: this.shares })) this.say(text);
  }
  async end() {
    const all = await this.ask("ask", { kind: "roi" }) && await this.ask("ask", { kind: "region" });
    if (all) this.say("the whole picture is sent, all of it alike");
  }
}
