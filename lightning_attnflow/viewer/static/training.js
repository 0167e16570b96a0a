// Words x steps for one layer: how each word's part changed during training, under the prediction at each step.
import { el, shorten, svg, textWidth } from "./dom.js";
import { legend } from "./network.js";
import { cellNumber, colour, formatValue, ink, percent, shade } from "./scale.js";

const SMALLEST_FOOT = 560; // pixels for the legend and the text under the drawing

/** Draw the words of one sentence over all steps. */
export function renderTraining(container, panel, state, actions) {
  const { document: sentence, kind, scale } = panel;
  const steps = sentence.steps.filter((step) => step.flows[kind]);
  const drawing = el("div", { class: "drawing" });
  container.append(drawing);
  const width = Math.max(320, drawing.clientWidth || 700);
  const last = steps[steps.length - 1];
  const shown = state.window(last.n);
  const names = last.words.slice(shown.start, shown.start + shown.count).map((word) => shorten(word, 20));
  const gutter = Math.min(170, Math.max(96, ...names.map((name) => textWidth(name)))) + 14;
  const column = Math.min(104, (width - gutter - 10) / steps.length);
  const rowHeight = Math.max(18, Math.min(34, (state.height - 190) / shown.count));
  const bars = 54;
  const top = bars + 34;
  const parts = [];
  const tip = el("div", { class: "tip", role: "status" }, el("span", { class: "muted" }, "Click a column to go to its step."));
  const classes = [...new Set(steps.map((step) => step.prediction?.class).filter(Boolean))];
  parts.push(svg("text", { x: 0, y: 16, class: "row-name" }, "prediction"));
  const halfway = 18 + bars / 2;
  if (steps.some((step) => step.prediction)) parts.push(svg("line", { x1: gutter, x2: gutter + column * steps.length, y1: halfway, y2: halfway, class: "halfway" }), svg("text", { x: gutter - 8, y: halfway + 3, class: "tick end" }, "50%"));
  let flips = 0;
  steps.forEach((step, place) => {
    const x = gutter + place * column;
    const current = step.step === panel.step.step;
    if (current) parts.push(svg("rect", { x, y: 14, width: column, height: top - 14 + shown.count * rowHeight + 4, class: "current-step", rx: 4 }));
    const { prediction } = step;
    if (prediction) {
      const height = bars * prediction.probability;
      const tone = classes.indexOf(prediction.class);
      parts.push(svg("rect", { x: x + 2, y: 18 + bars - height, width: Math.max(1, column - 4), height, rx: 2, class: `class-bar class-${Math.min(tone, 3)}`, "data-step": step.step, "data-class": prediction.class, "data-probability": prediction.probability }, svg("title", {}, `step ${step.step}: ${prediction.class} ${percent(prediction.probability, 1)}`)));
      if (column >= 44) parts.push(svg("text", { x: x + column / 2, y: 18 + bars - 6, class: `bar-text class-text-${Math.min(tone, 3)}` }, percent(prediction.probability)));
      const before = steps[place - 1]?.prediction;
      if (!before || before.class !== prediction.class) {
        if (before) flips += 1;
        const name = shorten(prediction.class, 14);
        const next = steps.findIndex((later, index) => index > place && later.prediction?.class !== prediction.class);
        const room = column * ((next < 0 ? steps.length : next) - place);
        if (textWidth(name, 13.5) + 4 <= room || next < 0) parts.push(svg("text", { x: x + 2, y: 11, class: "class-name" }, name));
      }
    }
    const every = Math.max(1, Math.ceil(34 / column));
    if (place % every === 0) parts.push(svg("text", { x: x + column / 2, y: top - 5, class: `tick${current ? " current" : ""}` }, String(step.step)));
    const flow = step.flows[kind];
    const row = state.row(flow);
    for (let index = shown.start; index < Math.min(step.n, shown.start + shown.count); index += 1) {
      const value = flow.at(row, index);
      const tone = shade(value, flow, scale);
      const y = top + (index - shown.start) * rowHeight;
      const cell = svg("rect", { x: x + 0.5, y: y + 0.5, width: Math.max(1, column - 1), height: rowHeight - 1, rx: 2, class: "cell", "data-step": step.step, "data-index": index, "data-value": value, style: { fill: colour(tone) } });
      cell.addEventListener("mouseenter", () => tip.replaceChildren(`${step.words[index]} at step ${step.step}: ${formatValue(value, flow, 4)}${step.prediction ? ` · ${step.prediction.class} ${percent(step.prediction.probability, 1)}` : ""}`));
      cell.addEventListener("click", () => actions.step(step.step));
      parts.push(cell);
      if (column >= 44) parts.push(svg("text", { x: x + column / 2, y: y + rowHeight / 2 + 4, class: "cell-text", style: { fill: ink(tone) } }, cellNumber(value, flow)));
    }
  });
  names.forEach((name, place) => {
    const special = last.special[shown.start + place];
    parts.push(svg("text", { x: gutter - 8, y: top + (place + 0.5) * rowHeight + 4, class: `word end${special ? " special" : ""}` }, name));
  });
  parts.push(svg("text", { x: gutter - 8, y: top - 5, class: "tick end" }, "step"));
  drawing.append(svg("svg", { width, height: top + shown.count * rowHeight + 8, class: "canvas", role: "img", "aria-label": `${last.n} words over ${steps.length} steps, ${flips} changes of the prediction` }, parts));
  const targets = new Set(steps.map((step) => step.flows[kind].target));
  const explained = targets.size > 1 ? "the class predicted at each step" : last.flows[kind].target;
  const { signed, unit } = last.flows[kind];
  const used = Math.min(width, Math.max(SMALLEST_FOOT, gutter + column * steps.length));
  drawing.append(el("div", { class: "below", style: { maxWidth: `${used}px` } }, tip, legend({ signed, unit, target: explained }, scale)));
}
