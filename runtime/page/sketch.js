// Drawing on the picture, with a finger, a mouse or the keyboard: what is drawn is the tool's. Places are shares of the
// picture's width and height.

import { tell } from "./format.js";

const STEP = 0.01;
const WIDE_STEP = 0.05;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function within(share) {
  return Math.min(1, Math.max(0, share));
}

// Three digits are a pixel of a picture of 1000; more would not be seen.
export function rounded(share) {
  return Math.round(share * 1000) / 1000;
}

export class Sketch {
  constructor(svg, said) {
    [this.svg, this.said, this.tool, this.size] = [svg, said, null, [4, 3]];
    [this.shapes, this.dots, this.cross] = ["shapes", "dots", "cross"].map((name) => svg.querySelector(`.${name}`));
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      svg.setPointerCapture(event.pointerId);
      this.isHeld = true;
      this.do("press", this.place(event));
    });
    svg.addEventListener("pointermove", (event) => this.isHeld && this.do("drag", this.place(event)));
    for (const name of ["pointerup", "pointercancel"]) {
      svg.addEventListener(name, () => {
        if (this.isHeld) this.do("release", this.at);
        this.isHeld = false;
      });
    }
    svg.addEventListener("keydown", (event) => this.key(event));
  }
  // Takes up a tool, with its name for a screen reader; null: lays it down.
  use(tool, label = "") {
    [this.tool, this.at, this.isHeld] = [tool, [0.5, 0.5], false];
    this.svg.toggleAttribute("hidden", !tool); // an SVG has no property of that name
    if (tool) this.svg.ariaLabel = label;
    tell(this.said, "");
    this.draw();
  }
  resize(width, height) {
    if (this.size[0] === width && this.size[1] === height) return;
    this.size = [width, height];
    this.draw();
  }
  place(event) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [within(x / this.size[0]), within(y / this.size[1])];
  }
  do(what, at) {
    this.at = at;
    this.tool[what](...at);
    this.draw();
  }
  // Arrow keys move the cross, Enter presses at it; a tool that holds is released by the next Enter.
  key(event) {
    const move = MOVES[event.key];
    if (move) {
      const by = event.shiftKey ? WIDE_STEP : STEP;
      const at = this.at.map((one, axis) => within(one + by * move[axis]));
      tell(this.said, `${Math.round(100 * at[0])} % from the left, ${Math.round(100 * at[1])} % from the top`);
      if (this.isHeld) this.do("drag", at);
      else this.at = at;
    } else if (event.key === "Enter" || event.key === " ") {
      this.do(this.isHeld ? "release" : "press", this.at);
      this.isHeld = this.tool.holds && !this.isHeld;
      if (!this.isHeld && !this.tool.holds) this.do("release", this.at);
    } else if (event.key === "Backspace" && this.tool.undo) {
      this.tool.undo();
    } else {
      return;
    }
    event.preventDefault();
    this.draw();
  }
  draw() {
    const [width, height] = this.size;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const text = ([x, y]) => `${(x * width).toFixed(2)},${(y * height).toFixed(2)}`;
    const areas = this.tool ? this.tool.areas() : [];
    this.shapes.setAttribute("d", areas.map((points) => `M${points.map(text).join("L")}Z`).join(""));
    this.dots.setAttribute("d", areas.flat().map((point) => `M${text(point)}h0`).join(""));
    const [x, y] = this.at ?? [0.5, 0.5];
    this.cross.setAttribute("d", `M0,${y * height}H${width}M${x * width},0V${height}`);
  }
}
