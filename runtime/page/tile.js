// One camera on the wall: a link to its details with picture, name, age, and what is wrong.

import { bytes, rate, tell } from "./format.js";
import { Picture, isDead } from "./picture.js";

const seen = new IntersectionObserver((entries) => {
  for (const { target: { tile }, isIntersecting } of entries) {
    tile.picture.wanted = isIntersecting;
    if (tile.stream) tile.picture.draw(tile.stream);
  }
}, { rootMargin: "200px" });

export class Tile {
  constructor(wall, name) {
    this.name = name;
    this.root = document.getElementById("tile").content.cloneNode(true).querySelector("li");
    this.root.dataset.stream = name;
    this.root.tile = this;
    const find = (selector) => this.root.querySelector(selector);
    [this.link, this.trouble, this.facts] = [find("a"), find(".trouble"), find(".facts")];
    this.link.href = `#${name.split("/").map(encodeURIComponent).join("/")}`;
    find(".name").textContent = find(".name").title = name;
    this.picture = new Picture(this.root);
    this.picture.wanted = false;
    wall.append(this.root);
    seen.observe(this.root);
  }
  draw(stream) {
    this.stream = stream;
    this.picture.draw(stream);
    tell(this.trouble, stream.trouble ?? "");
    this.trouble.title = stream.trouble ?? ""; // where there is no room for all of it
    this.root.classList.toggle("dead", Boolean(isDead(stream)));
    const { picture, state } = stream;
    tell(this.facts, [
      picture && bytes(picture.size_bytes), state?.capacity_bps && rate(state.capacity_bps),
      state?.data && `${bytes(state.data.left_bytes)} of data left`, ...this.badges(),
    ].filter(Boolean).join(" · "));
  }
  badges() {
    return [...this.picture.badges.children].map((badge) => badge.textContent);
  }
  matches(words) {
    const text = [this.name, this.stream.trouble ?? "", ...this.badges()].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  }
  get isSeen() {
    return this.picture.wanted && !this.root.hidden;
  }
  // Those that need somebody to look come first.
  get isTrouble() {
    return Boolean(this.stream.trouble) || !this.stream.picture;
  }
  remove() {
    seen.unobserve(this.root);
    this.root.remove();
  }
}
