/* The samples: found by words, task, length and verdict; a list that draws only what is in sight; one in full. */

(function samples() {
  const browser = byId("browser");
  if (!browser) return;
  const data = JSON.parse(byId("data").textContent).samples;
  const [TASK, INDEX, HASH, DEPTH, QUERY, REFERENCES, EXCERPTS, TAIL, ANSWERS, ALIKE] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const [MODEL, VERDICT, SCORE, TEXT, EXCERPT] = [0, 1, 2, 3, 4];
  const HEIGHT = 52;
  const SPARE = 6;
  const SIGNS = { right: "✓", "partly right": "◐", "not scored": "·" };
  const sign = (verdict) => SIGNS[verdict] || "✗";
  const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/gu;

  const list = byId("list");
  const spacer = byId("spacer");
  const pane = byId("sample");
  const field = {
    search: byId("search"), task: byId("by-task"), length: byId("by-length"), a: byId("model-a"),
    verdict: byId("by-verdict"), b: byId("model-b"), relation: byId("relation"),
  };
  const questions = data.questions;
  const answerOf = questions.map((question) => {
    const found = [];
    for (const answer of question[ANSWERS]) found[answer[MODEL]] = answer;
    return found;
  });
  const words = new Array(questions.length);
  let found = [];
  let at = 0;

  function options(select, first, names) {
    if (first !== null) select.append(new Option(first, ""));
    names.forEach(([name, value]) => select.append(new Option(name, String(value))));
  }

  function fill() {
    const tasks = [...new Set(data.tasks.map(([name]) => name))];
    const lengths = [...new Set(data.tasks.map(([, length]) => length))].filter((length) => length !== null);
    const models = data.models.map((name, place) => [name, place]);
    options(field.task, "all", tasks.map((name) => [name, name]));
    options(field.length, "all", lengths.sort((a, b) => a - b).map((length) => [number(length), length]));
    options(field.a, null, models);
    options(field.b, "none", models);
    const there = new Set(questions.flatMap((question) => question[ANSWERS].map((answer) => answer[VERDICT])));
    const verdicts = data.verdicts.map((name, place) => [name, place]).filter(([, place]) => there.has(place));
    options(field.verdict, "any", verdicts);
    if (models.length > 1) field.b.options[2].defaultSelected = true;
    field.b.form.reset();
  }

  /** All that can be searched of a question, in small letters; made when it is first needed. */
  function wordsOf(place) {
    if (words[place] === undefined) {
      const question = questions[place];
      const texts = [labelOf(question), question[HASH], question[QUERY], ...question[REFERENCES]];
      texts.push(question[TAIL], ...question[EXCERPTS].flat());
      for (const answer of question[ANSWERS]) texts.push(answer[TEXT]);
      words[place] = texts.filter((text) => text !== null).join("\n").toLowerCase();
    }
    return words[place];
  }

  const isRight = (answer) => answer[SCORE] !== null && answer[SCORE] >= 1;
  const isWrong = (answer) => answer[SCORE] !== null && answer[SCORE] < 1;
  const relations = {
    a: (a, b) => isRight(a) && isWrong(b),
    b: (a, b) => isWrong(a) && isRight(b),
    both: (a, b) => isRight(a) && isRight(b),
    neither: (a, b) => isWrong(a) && isWrong(b),
  };

  function search() {
    const wanted = field.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const a = Number(field.a.value);
    const b = field.b.value === "" ? null : Number(field.b.value);
    const relation = b === null ? undefined : relations[field.relation.value];
    field.relation.disabled = b === null;
    found = [];
    for (let place = 0; place < questions.length; place += 1) {
      const [task, length] = data.tasks[questions[place][TASK]];
      const answers = answerOf[place];
      if (field.task.value && task !== field.task.value) continue;
      if (field.length.value && String(length) !== field.length.value) continue;
      if (field.verdict.value && !(answers[a] && String(answers[a][VERDICT]) === field.verdict.value)) continue;
      if (relation && !(answers[a] && answers[b] && relation(answers[a], answers[b]))) continue;
      if (wanted.length && !wanted.every((word) => wordsOf(place).includes(word))) continue;
      found.push(place);
    }
    byId("found").textContent = `${number(found.length)} of ${counted(questions.length, "sample")}`;
    at = 0;
    list.scrollTop = 0;
    spacer.style.height = `${found.length * HEIGHT}px`;
    draw();
    show();
  }

  const labelOf = (question) => {
    const [task, length] = data.tasks[question[TASK]];
    return length === null ? task : `${task}@${length}`;
  };

  function row(rank) {
    const question = questions[found[rank]];
    const answers = answerOf[found[rank]];
    const line = make("div", "row");
    line.id = `row-${rank}`;
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", String(rank === at));
    line.setAttribute("aria-setsize", String(found.length));
    line.setAttribute("aria-posinset", String(rank + 1));
    line.style.transform = `translateY(${rank * HEIGHT}px)`;
    const name = make("span", "title");
    write(name, question[QUERY] === null ? `sample ${question[INDEX]}` : question[QUERY].slice(0, 120));
    const depth = question[DEPTH] === null ? "" : ` · depth ${Math.round(question[DEPTH] * 100)} %`;
    line.append(name, make("span", "place", `${labelOf(question)} · #${question[INDEX]}${depth}`));
    const verdicts = make("span", "signs");
    for (const model of new Set([field.a.value, field.b.value])) {
      const answer = model === "" ? undefined : answers[Number(model)];
      if (!answer) continue;
      const verdict = data.verdicts[answer[VERDICT]];
      const mark = make("b", `sign v${answer[VERDICT]}`, sign(verdict));
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", `${data.models[Number(model)]}: ${verdict}`);
      verdicts.append(mark);
    }
    line.append(verdicts);
    line.dataset.rank = String(rank);
    return line;
  }

  /** Draw the rows in sight, and a few above and below. */
  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(found.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + SPARE);
    const rows = [];
    for (let rank = first; rank < last; rank += 1) rows.push(row(rank));
    spacer.replaceChildren(...rows);
    if (rows.length && at >= first && at < last) list.setAttribute("aria-activedescendant", `row-${at}`);
    else list.removeAttribute("aria-activedescendant");
  }

  /** A text as it is, with what cannot be seen written as its code, and references marked. */
  function write(element, text, references = []) {
    let from = 0;
    const plain = (part) => {
      let last = 0;
      for (const match of part.matchAll(UNSEEN)) {
        if (match[0] === "\n" || match[0] === "\t") continue;
        element.append(part.slice(last, match.index));
        const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
        element.append(make("span", "code", `U+${code}`));
        last = match.index + match[0].length;
      }
      element.append(part.slice(last));
    };
    const wanted = references.filter((reference) => reference.trim()).sort((a, b) => b.length - a.length);
    while (wanted.length && from < text.length) {
      const next = wanted.map((reference) => [text.indexOf(reference, from), reference]).filter(([place]) => place >= 0);
      if (!next.length) break;
      const [place, reference] = next.reduce((best, one) => (one[0] < best[0] ? one : best));
      plain(text.slice(from, place));
      const mark = make("mark", "");
      write(mark, reference);
      element.append(mark);
      from = place + reference.length;
    }
    plain(text.slice(from));
    return element;
  }

  function part(title, ...contents) {
    const block = make("section", "part");
    block.append(make("h4", "", title), ...contents);
    return block;
  }

  /** The needle in its place. */
  function excerptPart(title, excerpt) {
    const [before, needle, behind] = excerpt;
    const text = write(make("p", "text excerpt"), `…${before}`);
    const mark = write(make("mark", ""), needle);
    text.append(mark);
    return part(title, write(text, `${behind}…`));
  }

  function answerPart(answer, question) {
    const references = question[REFERENCES];
    const verdict = data.verdicts[answer[VERDICT]];
    const block = make("section", "part answer");
    const title = make("h4", "", data.models[answer[MODEL]]);
    const chip = make("span", `chip v${answer[VERDICT]}`, `${sign(verdict)} ${verdict}`);
    const score = answer[SCORE];
    title.append(chip, make("span", "score", score === null || score === 0 || score === 1 ? "" : score.toFixed(2)));
    block.append(title);
    if (answer[TEXT] === null) block.append(make("p", "none", "No text: the task compares likelihoods."));
    else if (answer[TEXT] === "") block.append(make("p", "none", "An empty answer."));
    else block.append(write(make("pre", "text"), answer[TEXT], references));
    if (question[EXCERPTS].length > 1 && answer[EXCERPT] !== null) {
      block.append(excerptPart("The needle in its place", question[EXCERPTS][answer[EXCERPT]]));
    }
    return block;
  }

  function show() {
    pane.replaceChildren();
    if (!found.length) {
      pane.append(make("p", "none", "No sample is like this. Take a filter away."));
      return;
    }
    const question = questions[found[at]];
    const depth = question[DEPTH] === null ? "" : ` · depth ${Math.round(question[DEPTH] * 100)} %`;
    const head = make("p", "where", `${labelOf(question)} · sample ${question[INDEX]}${depth} · `);
    head.append(make("code", "", question[HASH]));
    pane.append(head);
    if (!question[ALIKE]) {
      pane.append(make("p", "where", "Asked the same, in contexts that each model's own tokenizer has filled."));
    }
    if (question[QUERY] !== null) pane.append(part("Asked for", write(make("p", "text"), question[QUERY])));
    if (question[REFERENCES].length) {
      const references = make("ul", "references");
      for (const reference of question[REFERENCES]) references.append(write(make("li", "text"), reference));
      pane.append(part("Right answers", references));
    }
    if (question[EXCERPTS].length === 1) pane.append(excerptPart("The needle in its place", question[EXCERPTS][0]));
    for (const answer of question[ANSWERS]) pane.append(answerPart(answer, question));
    if (question[TAIL] !== null) pane.append(part("The end of the prompt", write(make("pre", "text"), question[TAIL])));
  }

  function choose(rank) {
    at = Math.max(0, Math.min(found.length - 1, rank));
    const top = at * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    draw();
    show();
  }

  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 60);
  };

  fill();
  field.search.addEventListener("input", later);
  for (const select of [field.task, field.length, field.a, field.verdict, field.b, field.relation]) {
    select.addEventListener("change", search);
  }
  field.b.form.addEventListener("submit", (event) => event.preventDefault());
  field.b.form.addEventListener("reset", () => setTimeout(search));
  list.addEventListener("scroll", draw, { passive: true });
  list.addEventListener("click", (event) => {
    const line = event.target.closest(".row");
    if (line) choose(Number(line.dataset.rank));
  });
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(at + steps[event.key]);
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.search.focus();
    field.search.scrollIntoView({ block: "center" });
  });
  new ResizeObserver(draw).observe(list);
  browser.hidden = false;
  search();
})();
