/* The pair that was chosen in the matrix, task by task. */

(function pairs() {
  const buttons = [...document.querySelectorAll("button.pair")];
  const views = [...document.querySelectorAll(".pair-view")];

  function choose(place) {
    views.forEach((view, index) => {
      view.hidden = index !== place;
    });
    for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.pair) === place));
  }

  if (!views.length) return;
  choose(0);
  for (const button of buttons) button.addEventListener("click", () => choose(Number(button.dataset.pair)));
})();
