// The run as a whole: numbers by layer and step, numbers by step, and the sentences that changed most.
import { el, svg } from "./dom.js";
import { percent, short } from "./scale.js";

const SERIES = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5"];

const MAIN_NUMBERS = ["probability", "flips", "drift_from_start", "special_share", "words_for_80_percent"];
const MAIN_CHARTS = 4;
const SCALES = [0.1, 1]; // of maps: errors, and shares

/** Sentences in the order in which a reader should look at them: flips of the prediction first, then drift. */
export function sortedSentences(sentences, order) {
  const drift = (sentence) => sentence.numbers.at(-1)?.drift_from_start ?? 0;
  const keyed = sentences.map((sentence, place) => ({ sentence, place, flips: flips(sentence), drift: drift(sentence) }));
  const by = {
    change: (a, b) => b.flips - a.flips || b.drift - a.drift,
    drift: (a, b) => b.drift - a.drift,
    order: () => 0,
  }[order];
  return keyed.sort((a, b) => by(a, b) || a.place - b.place).map(({ sentence }) => sentence);
}

/** Whether the predicted class is not the label, if both are known. */
export function isWrong(prediction, label) {
  return Boolean(prediction && label && prediction.class !== label);
}

/** How often the predicted class changed. */
export function flips(sentence) {
  const classes = sentence.predictions.map((prediction) => prediction?.class).filter(Boolean);
  return classes.filter((name, place) => place > 0 && name !== classes[place - 1]).length;
}

export function renderOverview(container, panel, state, actions) {
  const { index } = panel;
  const present = new Set(index.steps.flatMap((step) => Object.keys(step.scalars ?? {})));
  const numbers = [...MAIN_NUMBERS.filter((name) => present.has(name)), ...[...present].filter((name) => !MAIN_NUMBERS.includes(name))];
  const layered = [...new Set(index.steps.flatMap((step) => Object.keys(step.layers ?? {})))];
  const about = index.descriptions ?? { scalars: {}, layers: {} };
  const charts = numbers.map((name, place) => lineChart(name, about.scalars[name], index.steps, SERIES[place % SERIES.length], panel.step.step, actions, state.other?.index.steps)).filter(Boolean);
  const deepest = Math.max(0, ...index.steps.flatMap((step) => Object.values(step.layers ?? {}).map((row) => row.length)));
  const maps = layered.map((name) => layerMap(name, about.layers[name], index.steps, panel.step.step, actions, deepest)).filter(Boolean);
  if (charts.length) {
    const rest = charts.slice(MAIN_CHARTS);
    const more = rest.length > 0 && el("details", { class: "more" }, el("summary", {}, `${rest.length} more numbers`), el("div", { class: "charts" }, rest));
    container.append(el("section", {}, el("h2", {}, "Over training"), state.other && el("p", { class: "lines" }, `Solid: ${state.runName(panel.run)}. Dashed: ${state.runName(state.other.run)}.`), el("div", { class: "charts" }, charts.slice(0, MAIN_CHARTS)), more));
  }
  if (maps.length) container.append(el("section", {}, el("h2", {}, "By layer and step"), el("div", { class: "charts" }, maps)));
  container.append(el("section", {}, el("h2", {}, "Sentences"), sentenceTable(panel, state, actions)));
  if (!charts.length && !maps.length) container.prepend(el("p", { class: "muted" }, "This record holds no summary numbers."));
}

function title(name) {
  return name.replaceAll("_", " ");
}

/** The steps of a run that have a number, with it. */
function pointsOf(steps, name) {
  return steps.map((step) => [step.step, step.scalars?.[name]]).filter(([, value]) => Number.isFinite(value));
}

function lineChart(name, about, steps, tone, current, actions, otherSteps = []) {
  const points = pointsOf(steps, name);
  if (!points.length) return null;
  const others = pointsOf(otherSteps, name);
  const all = [...points, ...others];
  const [width, height, pad, gutter] = [300, 120, 10, 40];
  const values = all.map(([, value]) => value);
  const [low, high] = [Math.min(0, ...values), Math.max(...values, 1e-9)];
  const numbers = all.map(([step]) => step);
  const [first, last] = [Math.min(...numbers), Math.max(...numbers)];
  const x = (step) => gutter + ((width - gutter - pad) * (step - first)) / (last - first || 1);
  const y = (value) => height - pad - ((height - 2 * pad) * (value - low)) / (high - low || 1);
  const path = (line) => line.map(([step, value], place) => `${place ? "L" : "M"}${x(step).toFixed(1)},${y(value).toFixed(1)}`).join("");
  const now = points.find(([step]) => step === current);
  return el(
    "figure",
    { class: "chart", "data-scalar": name },
    el("figcaption", {}, title(name), el("b", {}, now ? short(now[1]) : "–")),
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title(name)} from ${short(points[0][1])} to ${short(points.at(-1)[1])}` },
      svg("line", { x1: gutter, x2: width - pad, y1: y(0), y2: y(0), class: "axis" }),
      svg("text", { x: 0, y: y(high) + 4, class: "tick start" }, short(high)),
      svg("text", { x: 0, y: y(low) + 3, class: "tick start" }, short(low)),
      now && svg("line", { x1: x(current), x2: x(current), y1: pad, y2: height - pad, class: "cursor" }),
      others.length > 0 && svg("path", { d: path(others), class: "series other" }),
      svg("path", { d: path(points), class: "series", style: { stroke: `var(${tone})` } }),
      points.map(([step, value]) => svg("circle", { cx: x(step), cy: y(value), r: step === current ? 4 : 2.5, style: { fill: `var(${tone})` }, onclick: () => actions.step(step) }, svg("title", {}, `step ${step}: ${short(value)}`))),
    ),
    el("div", { class: "legend-ends" }, el("span", {}, `step ${first}`), el("span", {}, `step ${last}`)),
    about && el("p", { class: "about" }, about),
  );
}

function layerMap(name, about, steps, current, actions, deepest) {
  const with_ = steps.filter((step) => step.layers?.[name]?.length);
  if (!with_.length) return null;
  const rows = Math.max(...with_.map((step) => step.layers[name].length));
  const first = rows === deepest ? 0 : 1; // numbers of the attention of a layer, not of the positions after it
  const values = with_.flatMap((step) => step.layers[name]).filter(Number.isFinite);
  const largest = SCALES.find((scale) => values.every((value) => value <= scale)) ?? Math.max(...values);
  const [width, gutter] = [300, 50];
  const [column, row] = [(width - gutter) / with_.length, Math.max(8, Math.min(18, 130 / rows))];
  const cells = with_.flatMap((step, place) =>
    step.layers[name].map((value, layer) =>
      svg(
        "rect",
        { x: gutter + place * column, y: (rows - 1 - layer) * row, width: Math.max(0.5, column - 0.5), height: row - 0.5, class: step.step === current ? "cell current" : "cell", style: { fill: value === null ? "var(--line)" : `color-mix(in oklab, var(--flow) ${(100 * Math.min(1, Math.max(0, value / largest))).toFixed(1)}%, var(--cell))` }, onclick: () => actions.step(step.step) },
        svg("title", {}, `${layerName(layer + first)}, step ${step.step}: ${short(value)}`),
      ),
    ),
  );
  const labels = [0, rows - 1].map((layer) => svg("text", { x: 0, y: (rows - 1 - layer) * row + row / 2 + 3.5, class: "tick start" }, layerName(layer + first)));
  const place = with_.findIndex((step) => step.step === current);
  const frame = place >= 0 && svg("rect", { x: gutter + place * column, y: 0, width: column, height: rows * row, class: "cursor-frame" });
  return el(
    "figure",
    { class: "chart", "data-layers": name },
    el("figcaption", {}, title(name), el("small", {}, `0 to ${Number(largest.toPrecision(2))}`)),
    svg("svg", { viewBox: `0 0 ${width} ${rows * row + 1}`, role: "img", "aria-label": `${title(name)} of ${rows} rows` }, cells, labels, frame),
    el("div", { class: "legend-ends" }, el("span", {}, `step ${with_[0].step}`), el("span", {}, `step ${with_.at(-1).step}`)),
    about && el("p", { class: "about" }, about),
  );
}

function layerName(layer) {
  return layer === 0 ? "words" : `layer ${layer}`;
}

function sentenceTable(panel, state, actions) {
  const { index } = panel;
  const rows = sortedSentences(index.sentences, state.order).map((sentence) => {
    const prediction = sentence.predictions.at(-1);
    const first = sentence.predictions[0];
    const numbers = sentence.numbers.at(-1) ?? {};
    return el(
      "tr",
      { onclick: () => actions.sentence(sentence.name), class: sentence.name === state.name ? "current" : "" },
      el("td", { class: "text", dir: "auto" }, sentence.text),
      el("td", {}, first ? `${first.class} ${percent(first.probability)}` : "–"),
      el("td", {}, prediction ? `${prediction.class} ${percent(prediction.probability)}` : "–"),
      el("td", { class: isWrong(prediction, sentence.label) ? "wrong" : "" }, sentence.label ?? "–"),
      el("td", { class: "number" }, String(flips(sentence))),
      el("td", { class: "number" }, short(numbers.drift_from_start ?? null)),
    );
  });
  const heads = ["sentence", "at the start", "prediction", "label", "flips", "drift from start"];
  return el("table", { class: "sentences" }, el("thead", {}, el("tr", {}, heads.map((name) => el("th", {}, name)))), el("tbody", {}, rows));
}
