// The bar with the run and the step, the verdicts, and the list of sentences.
import { el, shorten } from "./dom.js";
import { flips, isWrong, sortedSentences } from "./overview.js";
import { percent } from "./scale.js";

const LONGEST_RUN = 22; // characters

/** Names of the runs without the folders that they have in common, short enough for the menus. */
export function runNames(runs) {
  const paths = runs.map((run) => run.split("/"));
  const shortest = Math.min(...paths.map((path) => path.length)) - 1;
  let common = 0;
  while (common < shortest && paths.every((path) => path[common] === paths[0][common])) common += 1;
  return paths.map((path) => shorten(path.slice(runs.length > 1 ? common : 0).join("/"), LONGEST_RUN));
}

/** The run, the step, and what it is compared with. */
export function renderHeader(app, panel) {
  const { state } = app;
  const steps = panel.document.steps;
  const place = steps.findIndex((step) => step.step === state.step);
  const { epoch } = panel.index.steps.find((step) => step.step === state.step) ?? {};
  const go = (change) => app.set({ step: steps[Math.max(0, Math.min(steps.length - 1, place + change))].step });
  const stepper = steps.length > 1 && el(
    "div",
    { class: "stepper" },
    el("button", { "aria-label": "Previous step", "data-control": "previous", disabled: place === 0, onclick: () => go(-1) }, "‹"),
    el("input", { type: "range", min: 0, max: steps.length - 1, value: place, "aria-label": "Step", "data-control": "step", oninput: (event) => app.set({ step: steps[Number(event.target.value)].step }) }),
    el("button", { "aria-label": "Next step", "data-control": "next", disabled: place === steps.length - 1, onclick: () => go(1) }, "›"),
    el("span", { class: "where" }, state.step === 0 ? "before training" : `step ${state.step}`, epoch !== null && epoch !== undefined && state.step !== 0 && el("small", {}, `epoch ${epoch}`)),
  );
  const select = (control, label, options, value, change) => el("label", {}, label, el("select", { "data-control": control, title: String(value), onchange: (event) => change(event.target.value) }, options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text))));
  const names = runNames(app.runs);
  const runs = app.runs.map((run, place) => [run, names[place]]);
  const canCompare = app.runs.length > 1 || steps.length > 1;
  const comparing = state.otherRun !== undefined;
  return el(
    "header",
    { class: "bar" },
    el("h1", {}, el("i", { class: "mark", "aria-hidden": "true" }), "Attention Flow"),
    app.runs.length > 1 && select("run", "run", runs, state.run, (run) => app.set({ run, step: undefined })),
    stepper,
    canCompare && select("other-run", "compare with", [["", "nothing"], ...runs], state.otherRun ?? "", (run) => app.set(run ? { otherRun: run, otherStep: run === state.run ? steps[0].step : undefined } : { otherRun: undefined, otherStep: undefined })),
    comparing && otherSteps(app, select),
    el("span", { class: "spring" }),
    el(
      "span",
      { class: "tools" },
      el("button", { class: "quiet", "data-control": "theme", title: "Light or dark", "aria-label": "Light or dark", onclick: () => app.toggleTheme() }, "◐"),
      el("button", { class: "quiet", "data-control": "help", onclick: () => app.help(true) }, "How to read this"),
    ),
  );
}

function otherSteps(app, select) {
  const { state } = app;
  const holder = el("span", { class: "holder" });
  app.loader.index(state.otherRun).then((index) => {
    const sentence = index.sentences.find(({ name }) => name === state.name);
    if (sentence) holder.append(select("other-step", "at step", sentence.steps.map((step) => [step, String(step)]), state.otherStep, (step) => app.set({ otherStep: Number(step) })));
  });
  return holder;
}

/** What the monitor found at this step; each with its rule, which opens on a click. */
export function renderVerdicts(app, panel) {
  const verdicts = panel.index.steps.find((step) => step.step === app.state.step)?.verdicts ?? [];
  if (!verdicts.length) return null;
  return el("div", { class: "verdicts", role: "status" }, verdicts.map((verdict) => el("details", { class: `verdict ${verdict.level ?? "warning"}` }, el("summary", {}, el("span", {}, verdict.text, showSentence(app, verdict)), el("small", {}, "the rule")), el("p", {}, verdict.rule))));
}

/** The way to a sentence that shows what was found. */
function showSentence(app, { name, sentence }) {
  if (!sentence || sentence === app.state.name) return null;
  const show = (event) => {
    event.preventDefault(); // the rule stays as it is
    app.sentence(sentence);
  };
  return [" ", el("button", { class: "inline", "data-control": `show-${name}`, onclick: show }, "show a sentence")];
}

/** The sentences of the run, with the prediction at this step. */
export function renderList(app, panel) {
  const { state } = app;
  const sentences = sortedSentences(panel.index.sentences, state.order);
  const items = sentences.map((sentence) => {
    const place = Math.max(0, sentence.steps.indexOf(state.step));
    const prediction = sentence.predictions[place];
    const changes = flips(sentence);
    return el(
      "li",
      { class: sentence.name === state.name ? "current" : "", "data-name": sentence.name },
      el("button", { "aria-current": sentence.name === state.name ? "true" : null, onclick: () => app.sentence(sentence.name) },
        el("span", { class: "sentence-text", dir: "auto" }, sentence.text),
        el("span", { class: "sentence-note" }, prediction ? `${prediction.class} ${percent(prediction.probability)}` : "", isWrong(prediction, sentence.label) && el("b", {}, `label ${sentence.label}`), changes > 0 && el("b", {}, changes === 1 ? "prediction flipped" : `flipped ${changes} times`)),
      ),
    );
  });
  const order = el("select", { "aria-label": "Order of the sentences", title: "Order of the sentences", "data-control": "order", onchange: (event) => app.set({ order: event.target.value }) },
    [["change", "flips, then drift"], ["drift", "drift from start"], ["order", "order of logging"]].map(([key, text]) => el("option", { value: key, selected: key === state.order }, text)));
  return el("nav", { class: "list" }, el("div", { class: "list-head" }, el("h2", {}, `${sentences.length} sentences by`), order), el("ol", { class: "sentence-list" }, items));
}
