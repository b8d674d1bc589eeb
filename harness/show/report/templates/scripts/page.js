"use strict";
/* The theme, and what several parts use. Texts reach the page through textContent only. */

const byId = (id) => document.getElementById(id);

/** An element with a class and a text. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined && text !== null) element.textContent = text;
  return element;
}

const number = (value) => value.toLocaleString("en-US");
const counted = (value, word) => `${number(value)} ${word}${value === 1 ? "" : "s"}`;

/** The theme that was chosen here before; pages from a file may not be allowed to remember it. */
function remembered(value) {
  try {
    if (value === undefined) return localStorage.getItem("theme");
    localStorage.setItem("theme", value);
  } catch {
    return null;
  }
  return value;
}

(function theme() {
  const order = ["system", "light", "dark"];
  const button = byId("theme");
  const root = document.documentElement;
  const apply = (name) => {
    if (name === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", name);
    button.querySelector(".name").textContent = name;
  };
  const first = remembered();
  apply(order.includes(first) ? first : "system");
  button.addEventListener("click", () => {
    const now = order.indexOf(root.getAttribute("data-theme") || "system");
    const next = order[(now + 1) % order.length];
    apply(next);
    remembered(next);
  });
  button.hidden = false;
  for (const part of document.querySelectorAll("[data-needs-script]")) part.hidden = false;
})();
