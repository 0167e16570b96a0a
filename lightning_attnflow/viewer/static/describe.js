// Sentences in plain English about what is shown. Pure functions without a document.
import { formatValue, isEmpty, percent } from "./scale.js";

/** Letters that are written from right to left. */
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/** A word in quotation marks; isolated if it is written from right to left, so that the numbers after it stay there. */
const quote = (word) => (RIGHT_TO_LEFT.test(word) ? `“\u2068${word}\u2069”` : `“${word}”`);

/** The direction of a sentence: that of its first letter outside special tokens. */
export function direction(step) {
  const first = step.words.filter((_, index) => !step.special[index]).join(" ").match(/\p{L}/u);
  return first && RIGHT_TO_LEFT.test(first[0]) ? "rtl" : "ltr";
}

/** What the values of a signed flow explain. A model with one output may have no name for it: it is the score. */
export function explained(flow) {
  if (flow.unit === "logit" && flow.target === "score") return "score";
  return flow.target ? `${flow.unit} of ${flow.target}` : flow.unit;
}

/** Ordinary words of a row, the largest absolute value first. */
export function leadingWords(step, flow, row) {
  const order = [];
  for (let index = 0; index < flow.n; index += 1) if (!step.special[index]) order.push(index);
  return order.sort((a, b) => Math.abs(flow.at(row, b)) - Math.abs(flow.at(row, a)));
}

const QUANTITIES = {
  conductance: "how much of the prediction flows through a word at a layer",
  attention_flow: "a word's Shapley value of the maximum flow through the attention network",
  rollout: "a word's share of the product of the attention of all layers above",
  attention: "a word's share of the attention",
};

/** What a view shows, in one sentence. Over training it shows one row of the flow. */
export function describeView(view, flow, row = 0) {
  const quantity = QUANTITIES[flow.kind];
  if (view === "run" || !quantity) return "";
  if (flow.single) return view === "layers" ? "Each row is a word, and the attention that it pays to the words of the columns." : "Lines lead from each word (top) to the words that it attends to (bottom).";
  const where = {
    network: "From the words (bottom) to the prediction (top). A box is",
    layers: "A row is a layer, from the words (bottom) up. A cell is",
    training: "A column is a validation. A cell is",
  }[view];
  if (!where) return "";
  const layer = flow.layers?.[row];
  const here = view !== "training" || flow.rows < 2 ? "" : layer ? `, here at layer ${layer}` : ", here at the words";
  return `${where} ${quantity}${here}.`;
}

/** What carries the prediction at one step. */
export function describeStep(step, flow, row) {
  const order = leadingWords(step, flow, row);
  if (!order.length) return "";
  const named = (list) => list.map((index) => `${quote(step.words[index])} ${formatValue(flow.at(row, index), flow)}`).join(", ");
  if (!flow.signed) {
    const warning = flow.warning(row);
    if (warning === "saturated") return "The flow of this layer is saturated: trivial cuts decide it, so it does not measure importance.";
    if (warning) return "The range over all maximum flows covers nearly everything in this layer: its values are not determined.";
    return `${flow.kind === "attention" ? "Most attention" : "Largest flow"}: ${named(order.slice(0, 3))}; the uniform share is ${percent(1 / flow.n, 1)}.`;
  }
  const target = flow.target ? quote(flow.target) : "the prediction";
  const floor = Math.max(0.005, Math.min(0.02, 1.5 / flow.n) * flow.variation(row));
  const supporting = order.filter((index) => flow.at(row, index) > floor).slice(0, 3);
  const opposing = order.filter((index) => flow.at(row, index) < -floor).slice(0, 2);
  const parts = [];
  if (supporting.length) parts.push(`For ${target}: ${named(supporting)}`);
  if (opposing.length) parts.push(`${supporting.length ? "against it" : `Against ${target}`}: ${named(opposing)}`);
  if (!parts.length && !isEmpty(flow)) return `No word stands out: the flow for ${target} is spread evenly over the words.`;
  return parts.length ? `${parts.join("; ")} (${flow.unit}).` : `Nothing flows for or against ${target}: the prediction does not depend on the words.`;
}

/** What changed between two steps: the prediction, and the word whose share of the flow changed most. */
export function describeChange(before, after, kind, row) {
  const from = before.flows[kind];
  const to = after.flows[kind];
  const lines = [];
  const [old, now] = [before.prediction, after.prediction];
  if (old && now && old.class !== now.class) {
    lines.push(`the prediction turned from ${old.class} to ${now.class}`);
  } else if (old && now) {
    const change = now.probability - old.probability;
    const verb = Math.abs(change) < 0.005 ? "stayed" : change > 0 ? "rose" : "fell";
    const numbers = verb === "stayed" ? `at ${percent(now.probability)}` : `from ${percent(old.probability)} to ${percent(now.probability)}`;
    lines.push(`the probability of ${now.class} ${verb} ${numbers}`);
  }
  const comparable = from && to && from.n === to.n && from.rows === to.rows && before.words.every((word, index) => word === after.words[index]);
  if (comparable) {
    let best = null;
    for (let index = 0; index < to.n; index += 1) {
      if (after.special[index]) continue;
      const change = to.share(row, index) - from.share(row, index);
      if (!best || Math.abs(change) > Math.abs(best.change)) best = { index, change };
    }
    if (to.signed && to.variation(row) < 0.01) {
      lines.push("almost nothing flows from the words any more");
    } else if (best && Math.abs(best.change) >= 0.02) {
      const side = to.signed ? (to.at(row, best.index) < 0 ? " against it" : " for it") : "";
      const target = side && to.target !== from.target ? "" : side;
      lines.push(
        `${quote(after.words[best.index])} ${best.change > 0 ? "rose" : "fell"} from ${percent(from.share(row, best.index))} to ` +
          `${percent(to.share(row, best.index))} of the flow${target}`,
      );
    } else if (best) {
      lines.push("no word's share of the flow changed by more than 2 points");
    }
  }
  if (!lines.length) return "";
  const text = `From step ${before.step} to ${after.step} ${lines.join("; ")}.`;
  return text;
}
