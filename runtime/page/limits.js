// What a sender may spend on ordinary frames: shown as its state says it, and changed by choosing something else.

import { bytes, rate } from "./format.js";

const SIZES = [1000, 2000, 4000, 8000, 16000, 30000];
const RATES = [2000, 5000, 10000, 20000, 50000, 100000, 500000];
const PATIENCE_MS = 15000; // then what the state says is shown again

export class Limits {
  // `ask(path, what)` asks the receiver, `say(text)` shows a message.
  constructor(root, { ask, say }) {
    [this.root, this.ask, this.say] = [root, ask, say];
    this.parts = [
      { name: "max_bytes", select: root.querySelector(".max-bytes"), choices: SIZES, text: bytes },
      { name: "max_rate_bps", select: root.querySelector(".max-rate"), choices: [0, ...RATES], text: (bps) => bps ? rate(bps) : "what the link bears" },
    ];
    for (const part of this.parts) part.select.addEventListener("change", () => this.change(part));
    this.clear();
  }
  clear() {
    for (const part of this.parts) part.shown = null;
  }
  // The choice is left alone as long as the state says the same: somebody may be choosing.
  draw(state) {
    this.root.hidden = !state;
    if (!state) return;
    for (const part of this.parts) {
      const value = state[part.name];
      if (value === part.shown) continue;
      part.shown = value;
      const choices = [...new Set([...part.choices, value])].sort((one, other) => one - other);
      part.select.replaceChildren(...choices.map((choice) => new Option(part.text(choice), choice)), new Option("as at its start", "start"));
      part.select.value = value;
    }
  }
  async change(part) {
    const asked = part.select.value === "start" ? 0 : Number(part.select.value);
    const answer = await this.ask("ask", { kind: "budget", [part.name]: asked });
    if (!answer) part.shown = null;
    else this.say("asked for");
    setTimeout(() => (part.shown = null), PATIENCE_MS);
  }
}
