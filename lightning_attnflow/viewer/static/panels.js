// Loads what the state of the page names: the run, the sentence and the step of each panel, with flow and edges.
import { chooseAttention, decodeHeads } from "./attention.js";
import { decodeEdges, decodeSentence, rolloutEdges } from "./data.js";
import { sortedSentences } from "./overview.js";
import { commonScale } from "./scale.js";

export class Loader {
  constructor(source) {
    Object.assign(this, { source, cache: new Map() });
  }

  /** Fetch once; failures are not kept. */
  load(key, fetch) {
    if (!this.cache.has(key)) {
      const promise = fetch();
      promise.catch(() => this.cache.delete(key));
      this.cache.set(key, promise);
    }
    return this.cache.get(key);
  }

  runs() {
    return this.load("runs", () => this.source.runs());
  }

  index(run) {
    return this.load(`index ${run}`, () => this.source.index(run));
  }

  /** Complete the state, and return the panels to draw: one, or two to compare; none without a record. */
  async panels(state) {
    const runs = await this.runs();
    if (!runs.length) return [];
    if (!runs.includes(state.run)) state.run = runs[runs.length - 1];
    const first = await this.panel(state, state.run, state.step, "a");
    if (!first) return [];
    state.step = first.step.step;
    if (state.otherRun !== undefined && !runs.includes(state.otherRun)) delete state.otherRun;
    const second = state.otherRun === undefined ? null : await this.panel(state, state.otherRun, state.otherStep, "b");
    const panels = second ? [first, second] : [first];
    if (second) state.otherStep = second.step.step;
    const scale = commonScale(panels.flatMap((panel) => panel.document.steps), first.kind);
    panels.forEach((panel) => (panel.scale = scale));
    return panels;
  }

  async panel(state, run, wanted, id) {
    const index = await this.index(run);
    if (!index.sentences.length) return null;
    const names = index.sentences.map((sentence) => sentence.name);
    if (!names.includes(state.name)) {
      if (id === "b") throw new Error(`The run ${run} has no sentence ${state.name}.`);
      state.name = sortedSentences(index.sentences, state.order)[0].name;
    }
    const { name } = state;
    const sentence = await this.load(`sentence ${run} ${name}`, async () => decodeSentence(await this.source.sentence(run, name)));
    const step = nearest(sentence.steps, wanted);
    const kinds = Object.keys(step.flows);
    if (!kinds.includes(state.kind)) state.kind = kinds.includes("conductance") ? "conductance" : kinds[0];
    const flow = step.flows[state.kind];
    const shown = { flow, ...(await this.edges(state, run, step)) };
    return { id, run, index, document: sentence, step, kind: state.kind, kinds, ...shown };
  }

  /** The edges of the chosen flow; those of the attention, in a neutral colour, for a maximum flow, which is not unique. */
  async edges(state, run, step) {
    const { kind, name } = state;
    const isChosen = kind === "attention" && state.view === "layers" && step.flows.attention.hasEdges;
    if (state.view !== "network" && !isChosen) return { edges: null };
    const packed = await this.load(`edges ${run} ${name} ${step.step}`, () => this.source.edges(run, name, step.step));
    const attention = packed.attention ? decodeEdges(packed.attention, step.n) : null;
    if (kind === "attention") {
      const heads = packed.heads ? decodeHeads(packed.heads) : null;
      return { ...chooseAttention(step.flows.attention, attention, heads, state), neutralEdges: true, nLayers: attention?.length ?? 0 };
    }
    if (packed[kind]) return { edges: decodeEdges(packed[kind], step.n) };
    if (kind === "rollout" && attention) return { edges: rolloutEdges(attention, step.flows.rollout) };
    return kind === "attention_flow" ? { edges: attention, neutralEdges: true } : { edges: null };
  }
}

/** The step asked for, or the last one before it, or the last of all. */
function nearest(steps, wanted) {
  if (wanted === undefined) return steps[steps.length - 1];
  return steps.findLast((step) => step.step <= wanted) ?? steps[0];
}
