// Colours and numbers on absolute scales. Colours are CSS expressions, so that light and dark need no redrawing.

/** Multiples of the uniform share at which the colour of an unsigned flow is strongest. */
export const STRONGEST_MULTIPLE = 8;

/** The smallest of 1, 2, 5, 10, ... times a power of ten that is at least `value`. */
export function niceMaximum(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 5]) if (factor * power >= value * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

/** Log probabilities that change by less than this are negligible, and are not stretched to strong colours. */
const SMALLEST_LOG_PROBABILITY = 0.1;

/** One scale for all given flows: the largest absolute value of ordinary words, rounded up. */
export function commonScale(steps, kind) {
  const isLog = steps.some((step) => step.flows[kind]?.unit === "log probability");
  let largest = isLog ? SMALLEST_LOG_PROBABILITY : 0;
  for (const step of steps) {
    const flow = step.flows[kind];
    if (!flow || !flow.signed) continue;
    const ordinary = step.special.some((flag) => !flag);
    for (let row = 0; row < flow.rows; row += 1) {
      for (let index = 0; index < flow.n; index += 1) {
        if (ordinary && step.special[index]) continue;
        largest = Math.max(largest, Math.abs(flow.at(row, index)));
      }
    }
  }
  return niceMaximum(largest);
}

/** Strength in [0, 1] of a colour, and its CSS variable. */
export function shade(value, flow, scale) {
  if (flow.signed) {
    const strength = Math.min(1, Math.abs(value) / scale) ** 0.75;
    return { strength, tone: value >= 0 ? "--support" : "--oppose" };
  }
  const multiple = value * flow.n;
  const strength = multiple <= 1 ? 0 : Math.min(1, Math.log(multiple) / Math.log(STRONGEST_MULTIPLE));
  return { strength, tone: "--flow" };
}

/** CSS colour of a cell. */
export function colour({ strength, tone }) {
  return `color-mix(in oklab, var(${tone}) ${(100 * strength).toFixed(1)}%, var(--cell))`;
}

/** Strengths above which light text has the higher contrast in the light theme, and dark text in the dark theme. */
const INVERTED_ABOVE = { light: { "--support": 0.8, "--flow": 0.72, "--oppose": 1 }, dark: 0.6 };

/** CSS colour of text on a cell; its contrast is at least 3.8 in both themes. */
export function ink({ strength, tone }) {
  const [light, dark] = [strength > INVERTED_ABOVE.light[tone], strength > INVERTED_ABOVE.dark];
  const name = (inverted) => (inverted ? "var(--on-strong)" : "var(--ink)");
  return light === dark ? name(light) : `light-dark(${name(light)}, ${name(dark)})`;
}

/** A value with sign and a fixed number of decimals. */
export function formatValue(value, flow, decimals = 2) {
  if (!Number.isFinite(value)) return "n/a";
  if (!flow.signed) return `${(100 * value).toFixed(decimals > 2 ? decimals - 1 : 1)}%`;
  const text = Math.abs(value).toFixed(decimals);
  return `${value < 0 && Number(text) !== 0 ? "−" : "+"}${text}`;
}

/** Whether nothing flows from the words, up to rounding. */
export function isEmpty(flow) {
  return flow.signed && flow.variation(0) < 0.01;
}

/** The number in a cell; none for values that round to 0. */
export function cellNumber(value, flow) {
  return Math.abs(value) < (flow.signed ? 0.005 : 0.0005) ? "" : formatValue(value, flow);
}

export function percent(value, decimals = 0) {
  return Number.isFinite(value) ? `${(100 * value).toFixed(decimals)}%` : "n/a";
}

/** A short number for axes and tables. */
export function short(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000 || size < 0.001) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/** Name of a flow for people. */
export function kindName(kind) {
  const names = { conductance: "Conductance", attention_flow: "Attention flow", rollout: "Rollout", attention: "Attention" };
  return names[kind] ?? kind.replaceAll("_", " ");
}

/** Name of a row: the words, a layer, or a word that attends. */
export function rowName(flow, row) {
  if (flow.rowNames) return flow.rowNames[row];
  const layer = flow.layers[row];
  return layer === 0 ? "words" : `layer ${layer}`;
}
