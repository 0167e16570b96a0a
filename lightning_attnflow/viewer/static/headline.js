// Above the view: the sentence with its prediction in words, the tabs with their controls, the strip of a long sentence.
import { describeChange, describeStep, describeView, direction } from "./describe.js";
import { el } from "./dom.js";
import { isWrong } from "./overview.js";
import { colour, formatValue, ink, kindName, percent, rowName, shade } from "./scale.js";

const LONG_SENTENCE = 40; // words, from which they are set in smaller type
const VIEWS = { values: "Values", network: "Flow network", layers: "Layers", training: "Over training", run: "Run" };

/** The coloured sentence, the prediction, and both in words. */
export function renderHeadline(app, panels) {
  const [{ step, flow, scale, document: sentence, kind }] = panels;
  const row = app.row(flow);
  const shown = step.n > 160 ? app.window(step.n) : { start: 0, count: step.n };
  const words = [];
  for (let index = shown.start; index < shown.start + shown.count; index += 1) {
    const tone = shade(flow.at(row, index), flow, scale);
    const range = flow.range(row, index);
    words.push(el("span", { class: `token${step.special[index] ? " special" : ""}`, "data-value": flow.at(row, index), title: formatValue(flow.at(row, index), flow, 4) + (range ? `, ${flow.rangeName} ${formatValue(range[0], flow, 4)} to ${formatValue(range[1], flow, 4)}` : ""), style: { background: colour(tone), color: ink(tone) } }, step.words[index]), " ");
  }
  const { prediction } = step;
  const before = sentence.steps[0];
  const other = panels[1]?.step;
  const texts = [describeStep(step, flow, row)];
  if (other && panels[0].run !== panels[1].run) texts.push(`${app.runName(panels[1].run)}: ${describeStep(other, panels[1].flow, app.row(panels[1].flow))}`);
  if (other && panels[0].run === panels[1].run && other.step !== step.step && !flow.derived) {
    const [early, late] = other.step < step.step ? [other, step] : [step, other];
    texts.push(describeChange(early, late, kind, row));
  } else if (!other && before.step !== step.step && !flow.derived) texts.push(describeChange(before, step, kind, row));
  return el(
    "section",
    { class: "headline" },
    el("p", { class: step.n > LONG_SENTENCE ? "words long" : "words", "data-role": "words", dir: direction(step) }, words, shown.count < step.n && el("span", { class: "muted" }, ` words ${shown.start + 1} to ${shown.start + shown.count} of ${step.n}`)),
    prediction && el("div", { class: "prediction", "data-role": "prediction" }, el("b", {}, prediction.class), el("span", { class: "probability" }, percent(prediction.probability, 1)), el("i", { class: "meter plain", style: { width: `${100 * prediction.probability}%` } }), step.label && el("small", { class: isWrong(prediction, step.label) ? "wrong" : "", "data-role": "label" }, `label ${step.label}`)),
    el("p", { class: "description", "data-role": "description" }, texts.filter(Boolean).join(" ")),
  );
}

/** The tabs, and the controls of the current view. */
export function renderToolbar(app, panel) {
  const { state } = app;
  const many = panel.document.steps.length > 1;
  const layered = panel.flow.rows > 1;
  const present = { values: !layered, network: layered, layers: layered, training: many, run: many || panel.index.sentences.length > 1 };
  const views = Object.entries(VIEWS).filter(([view]) => present[view]);
  if (!present[state.view]) state.view = views[0][0];
  const kinds = panel.kinds.length > 1 && state.view !== "run" && el("label", {}, el("select", { "data-control": "kind", "aria-label": "Flow", onchange: (event) => app.set({ kind: event.target.value, layer: undefined, head: undefined, only: undefined }) }, panel.kinds.map((kind) => el("option", { value: kind, selected: kind === panel.kind }, kindName(kind)))));
  const row = app.row(panel.flow);
  const layer = panel.flow.rows > 1 && !panel.flow.single && state.view !== "run" && el("label", { title: "The layer whose values colour the sentence above" }, "colours from", el("select", { "data-control": "layer", onchange: (event) => app.set({ layer: Number(event.target.value) }) }, panel.flow.layers.map((number, place) => el("option", { value: number, selected: place === row }, rowName(panel.flow, place)))));
  const share = state.view === "network" && panel.edges && el("label", { class: "share", title: "The strongest edges that carry this share of the flow between layers are drawn" }, "flow shown", el("input", { type: "range", min: 0.3, max: 1, step: 0.01, value: state.share, "data-control": "share", oninput: (event) => app.set({ share: Number(event.target.value) }) }), el("output", {}, percent(state.share)));
  const caption = describeView(state.view, panel.flow, row);
  const toolbar = el(
    "div",
    { class: "toolbar" },
    el("div", { class: "tabs", role: "tablist" }, views.map(([view, name]) => el("button", { role: "tab", "aria-selected": String(view === state.view), "data-view": view, onclick: () => app.set({ view }) }, name))),
    el("div", { class: "controls" }, kinds, attentionControls(app, panel), layer, share),
  );
  return [toolbar, caption && el("p", { class: "caption", "data-role": "caption" }, caption)];
}

/** The choice of one head and one layer of the attention. */
function attentionControls(app, panel) {
  const { state } = app;
  const flow = panel.document.steps.find((step) => step.step === panel.step.step).flows.attention;
  if (panel.kind !== "attention" || !flow?.hasEdges || !["network", "layers"].includes(state.view)) return null;
  const number = (text) => (text === "" ? undefined : Number(text));
  const select = (control, label, options, value, disabled) => el("label", {}, el("select", { "data-control": control, "aria-label": label, disabled, onchange: (event) => app.set({ [control]: number(event.target.value) }) }, options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value ?? "") }, text))));
  const heads = [["", "mean of the heads"], ...Array.from({ length: flow.nHeads }, (_, head) => [head, `head ${head + 1}`])];
  const layers = [["", "all layers"], ...Array.from({ length: panel.nLayers }, (_, layer) => [layer + 1, `layer ${layer + 1}`])];
  return [select("only", "Layer of the attention", layers, state.only), select("head", "Head", heads, state.head, !flow.nHeads), !flow.nHeads && el("small", { class: "without-heads" }, flow.withoutHeads)];
}

/** All words of a long sentence in one strip, with the visible part as a frame that can be moved and resized. */
export function renderMinimap(app, panel) {
  const { step, flow, scale } = panel;
  const shown = app.window(step.n);
  const row = app.row(flow);
  const cells = [];
  for (let index = 0; index < step.n; index += 1) cells.push(el("i", { style: { background: colour(shade(flow.at(row, index), flow, scale)) } }));
  const frame = el("b", { style: { left: `${(100 * shown.start) / step.n}%`, width: `${(100 * shown.count) / step.n}%` } });
  const move = (event) => {
    const box = strip.getBoundingClientRect();
    const middle = ((event.clientX - box.left) / box.width) * step.n;
    app.set({ start: Math.max(0, Math.min(step.n - shown.count, Math.round(middle - shown.count / 2))) });
  };
  const strip = el("div", { class: "strip", "data-control": "strip", onpointerdown: (event) => move(event), onpointermove: (event) => event.buttons && move(event) }, cells, frame);
  const zoom = (factor) => {
    const count = Math.max(6, Math.min(step.n, Math.round(shown.count * factor)));
    app.set({ count, start: Math.max(0, Math.min(step.n - count, Math.round(shown.start + (shown.count - count) / 2))) });
  };
  return el("div", { class: "minimap" }, strip, el("div", { class: "zoom" }, el("button", { "aria-label": "Fewer words", "data-control": "zoom-in", onclick: () => zoom(0.5) }, "+"), el("button", { "aria-label": "More words", "data-control": "zoom-out", onclick: () => zoom(2) }, "−"), el("span", {}, `words ${shown.start + 1} to ${shown.start + shown.count} of ${step.n}`)));
}
