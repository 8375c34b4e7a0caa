// Chart of one figure of a stream over the last minutes.

import { bytes, rate, seconds, tell } from "./format.js";

const SHORTEST_MS = 60000;
const FIGURES = [
  ["capacity_bps", "capacity", rate],
  ["budget_bytes", "budget", bytes],
  ["size_bytes", "bytes a frame", bytes],
  ["delay_s", "delay", seconds],
];

export function allCharts(parent) {
  return FIGURES.map((figure) => new Chart(parent, ...figure));
}

class Chart {
  constructor(parent, key, label, format) {
    const node = document.getElementById("chart").content.cloneNode(true);
    [this.key, this.format] = [key, format];
    [this.now, this.most] = [node.querySelector(".now"), node.querySelector(".most")];
    [this.area, this.line] = [node.querySelector(".area"), node.querySelector(".line")];
    node.querySelector(".label").textContent = label;
    parent.append(node);
  }
  draw(samples, nowMs) {
    const points = samples.filter((sample) => sample[this.key] !== undefined);
    const last = points.at(-1);
    tell(this.now, last ? this.format(last[this.key]) : "unknown");
    const max = Math.max(...points.map((sample) => sample[this.key]), 1e-9);
    tell(this.most, last ? `most ${this.format(max)}` : "");
    const spanMs = Math.max(SHORTEST_MS, nowMs - (samples[0]?.time_ms ?? nowMs));
    const drawn = points.map((sample) => {
      const x = 300 * (1 - (nowMs - sample.time_ms) / spanMs);
      return `${x.toFixed(1)},${(48 - 32 * Math.max(0, sample[this.key]) / max).toFixed(1)}`;
    });
    this.line.setAttribute("d", last ? `M${drawn.join("L")}` : "");
    const [first, end] = [drawn[0]?.split(",")[0], drawn.at(-1)?.split(",")[0]];
    this.area.setAttribute("d", last ? `M${first},48L${drawn.join("L")}L${end},48Z` : "");
  }
}
