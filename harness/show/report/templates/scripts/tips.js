/* What a field, a point or a part of a bar says, when it is pointed at or has the focus. */

(function tips() {
  const tip = byId("tip");
  let owner = null;

  function show(target) {
    owner = target;
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    const box = target.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  }

  function hide() {
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  }

  const target = (event) => (event.target instanceof Element ? event.target.closest("[data-tip]") : null);
  document.addEventListener("pointerover", (event) => (target(event) ? show(target(event)) : hide()));
  document.addEventListener("focusin", (event) => (target(event) ? show(target(event)) : hide()));
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", hide, { capture: true, passive: true });
})();

/* Points of charts and parts of bars: one stop of the Tab key a drawing, arrow keys inside. */
(function walks() {
  for (const drawing of document.querySelectorAll(".walk")) {
    const points = [...drawing.querySelectorAll("[data-tip]")];
    if (!points.length) continue;
    let at = points.findIndex((point) => !point.closest(".theirs"));
    if (at < 0) at = 0;
    points.forEach((point, place) => point.setAttribute("tabindex", place === at ? "0" : "-1"));
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = Math.max(0, Math.min(points.length - 1, points.indexOf(document.activeElement) + step));
      points[at].setAttribute("tabindex", "-1");
      points[next].setAttribute("tabindex", "0");
      points[next].focus();
      at = next;
    });
  }
})();
