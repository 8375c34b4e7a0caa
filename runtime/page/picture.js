// A stream's latest picture in an image of the page, with its age and its badges.

import { age, pathOf, tell } from "./format.js";

const OLD_S = 10;
const LATE_S = 60;
const CATALOGUED_S = 60;
const LITTLE_DATA = 0.1;

// What is to be known of a stream's pictures, as [text, class].
export function badgesOf(stream) {
  const state = stream.state ?? {};
  const data = state.data;
  const left = data ? data.left_bytes / Math.max(1, data.spent_bytes + data.left_bytes) : 1;
  return [
    stream.elsewhere && ["from the catalogue", ""],
    stream.picture?.steps > 0 && ["invented detail", "old"],
    state.masked && ["mask on", ""],
    state.grey && ["grey", ""],
    state.denoised && ["averaged", ""],
    state.live === "idle" && ["thumbnails", ""],
    state.shrunk_percent < 100 && [`shrunk to ${state.shrunk_percent} %`, ""],
    left < LITTLE_DATA && [`data ${Math.floor(100 * left)} % left`, "old"],
  ].filter(Boolean);
}

// Seconds from picture to picture; those of the catalogue come some at a time.
function intervalOf(stream) {
  return stream.interval_s ?? (stream.elsewhere ? CATALOGUED_S : 0);
}

// Seconds after which a new picture should long have come.
function lateOf(stream) {
  return Math.max(LATE_S, 3 * intervalOf(stream));
}

// Whether pictures of a stream are those of long ago.
export function isDead(stream) {
  return (stream.state && !stream.state.up) || stream.heard_s === null || stream.heard_s > stream.silent_s;
}

export class Picture {
  constructor(root) {
    this.image = root.querySelector("img");
    [this.age, this.badges] = [root.querySelector(".age"), root.querySelector(".badges")];
    this.wanted = true;
    this.past = null; // the time of an archived picture, which is shown by somebody else
    this.clear();
    this.image.addEventListener("error", () => (this.shown = ""));
  }
  clear() {
    this.shown = "";
    this.image.removeAttribute("src");
  }
  // Fetches the picture if there is another one and the one before has come: a slow link shows fewer, not none.
  draw(stream) {
    const badges = badgesOf(stream);
    if (this.badges.textContent !== badges.map(([text]) => text).join("")) {
      this.badges.replaceChildren(...badges.map(([text, kind]) => {
        const badge = document.createElement("span");
        [badge.className, badge.textContent] = [`badge ${kind}`, text];
        return badge;
      }));
    }
    const picture = stream.picture;
    if (this.past !== null) {
      tell(this.age, this.past);
      this.age.className = "age old";
      return;
    }
    tell(this.age, picture ? age(picture.age_s) : "no picture yet");
    const old = Math.max(OLD_S, 2 * intervalOf(stream));
    this.age.className = `age ${!picture ? "" : picture.age_s > lateOf(stream) ? "bad" : picture.age_s > old ? "old" : ""}`;
    if (!picture || !this.wanted) return;
    const key = `${picture.epoch}-${picture.number}`;
    if (key === this.shown || (this.shown && !this.image.complete)) return;
    this.shown = key;
    this.image.src = `${pathOf(stream.name)}.jpg?${key}`;
  }
}
