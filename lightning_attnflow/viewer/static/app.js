// The page: holds its state, and draws the controls and the views.
import { OWN_ADDRESS, formatState, parseState } from "./address.js";
import { renderBars } from "./bars.js";
import { el } from "./dom.js";
import { renderHeader, renderList, renderVerdicts, runNames } from "./header.js";
import { renderHeadline, renderMinimap, renderToolbar } from "./headline.js";
import { renderHeatmap } from "./heatmap.js";
import { helpPanel } from "./help.js";
import { handleKey } from "./keys.js";
import { renderNetwork } from "./network.js";
import { renderOverview } from "./overview.js";
import { Loader } from "./panels.js";
import { replaceContent } from "./redraw.js";
import { percent } from "./scale.js";
import { renderTraining } from "./training.js";

const FITTING_WORDS = 56;
const WORDS_OF_A_LONG_SENTENCE = 32;
const WORDS_OVER_TRAINING = 26; // rows that fit on a screen
const RELOAD_MILLISECONDS = 5000;
const DRAWINGS = { values: renderBars, network: renderNetwork, layers: renderHeatmap, training: renderTraining, run: renderOverview };

/** Show the runs of a source in an element; `address` reads and writes the state of the page. */
export async function mount(root, source, address = OWN_ADDRESS) {
  const app = new App(root, source, address);
  await app.start();
  return app;
}

class App {
  constructor(root, source, address) {
    Object.assign(this, { root, source, address, loader: new Loader(source), pinned: null, helping: false, drawing: 0, dragged: null });
    this.readAddress();
    this.root.classList.add("attnflow");
  }

  async start() {
    window.addEventListener("hashchange", () => {
      if (this.written === this.address.read()) return;
      this.readAddress();
      this.draw();
    });
    window.addEventListener("keydown", (event) => handleKey(this, event));
    this.root.addEventListener("pointerdown", ({ target }) => (this.dragged = target.matches?.('input[type="range"]') ? target : null));
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => this.drop());
    let timer = 0;
    window.addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.draw(), 120);
    });
    await this.draw();
    if (this.source.live) setInterval(() => this.reload(), RELOAD_MILLISECONDS);
  }

  /** Look for new steps; follow them if the last step is shown. */
  async reload() {
    if (document.hidden || this.reloading) return;
    this.reloading = true;
    try {
      const runs = await this.source.runs();
      const known = await this.loader.runs().catch(() => []);
      const { run } = this.state;
      const fresh = run ? await this.source.index(run) : null;
      const old = run ? await this.loader.index(run).catch(() => null) : null;
      const changed = JSON.stringify(runs) !== JSON.stringify(known) || JSON.stringify(fresh) !== JSON.stringify(old);
      if (!changed && !this.failed) return;
      const last = old?.steps.at(-1)?.step;
      this.loader = new Loader(this.source);
      if (this.state.step === last) delete this.state.step;
      await this.draw();
    } catch {
      // TensorBoard was stopped or is loading; the next attempt may succeed
    } finally {
      this.reloading = false;
    }
  }

  /** Draw the slider anew that was dragged. */
  drop() {
    if (!this.dragged) return;
    this.dragged = null;
    this.draw();
  }

  set(changes) {
    Object.assign(this.state, changes);
    return this.draw();
  }

  /** Show another sentence from its first word. */
  sentence(name, changes = {}) {
    return this.set({ name, start: undefined, count: undefined, ...changes });
  }

  async draw() {
    const ticket = ++this.drawing;
    try {
      this.runs = await this.loader.runs();
      const panels = await this.loader.panels(this.state);
      if (ticket !== this.drawing) return;
      this.failed = false;
      this.paint(panels);
    } catch (error) {
      if (ticket !== this.drawing) return;
      this.failed = true;
      this.root.replaceChildren(el("div", { class: "empty" }, el("h1", {}, "Attention Flow"), el("p", { class: "error" }, String(error.message ?? error)), this.otherRuns()));
    }
  }

  /** The way back from a run that cannot be shown. */
  otherRuns() {
    const others = (this.runs ?? []).filter((run) => run !== this.state.run);
    const show = (run) => this.set({ run, otherRun: undefined, step: undefined, name: undefined });
    return el("p", {}, others.map((run) => [el("button", { "data-run": run, onclick: () => show(run) }, run), " "]));
  }

  /** The row of a flow that colours the sentence: the input of a signed flow, otherwise the last readable layer. */
  row(flow) {
    const wanted = flow.layers.indexOf(this.state.layer);
    if (wanted >= 0) return wanted;
    if (flow.signed || flow.rows < 3) return 0;
    return flow.rows - 2;
  }

  /** The name of a run in the menus. */
  runName(run) {
    return runNames(this.runs)[this.runs.indexOf(run)];
  }

  isLong(n) {
    return n > FITTING_WORDS;
  }

  /** The words that are drawn: all of a short sentence, otherwise a part that can be moved and resized. */
  window(n) {
    const most = this.state.view === "training" ? WORDS_OVER_TRAINING : n;
    const count = Math.max(1, Math.min(n, most, this.state.count ?? (this.isLong(n) ? WORDS_OF_A_LONG_SENTENCE : n)));
    const start = Math.max(0, Math.min(n - count, this.state.start ?? 0));
    return { start, count };
  }

  paint(panels) {
    this.writeAddress();
    if (this.state.theme) document.documentElement.dataset.theme = this.state.theme;
    if (!panels.length) {
      const text = this.source.live
        ? "No run in this log directory was recorded by AttentionFlowMonitor yet. Add the callback to the trainer; the page updates while training goes on."
        : "This file holds no record.";
      this.root.replaceChildren(el("div", { class: "empty" }, el("h1", {}, "Attention Flow"), el("p", {}, text)));
      return;
    }
    const [panel] = panels;
    const several = panel.index.sentences.length > 1;
    const view = el("div", { class: "view" });
    const frame = el("div", { class: "views" }, view);
    const scroll = this.root.querySelector(".sentence-list")?.scrollTop ?? 0;
    const help = this.helping ? helpPanel(() => this.help(false)) : null;
    const restore = replaceContent(
      this.root,
      [
        renderHeader(this, panel),
        renderVerdicts(this, panel),
        el("div", { class: several ? "body with-list" : "body" }, several && renderList(this, panel), el("main", {}, renderHeadline(this, panels), renderToolbar(this, panel), frame)),
        help,
      ].filter(Boolean),
      this.dragged,
    );
    const list = this.root.querySelector(".sentence-list");
    const current = list?.querySelector(".current");
    if (current) list.scrollTop = Math.max(scroll, current.offsetTop - list.offsetTop + current.offsetHeight - list.clientHeight);
    this.views(view, panels);
    restore();
  }

  views(view, panels) {
    const { state } = this;
    const isPair = panels.length > 1 && state.view !== "run";
    const height = Math.max(380, window.innerHeight - view.getBoundingClientRect().top - 24);
    const context = {
      share: state.share, order: state.order, name: state.name, pinned: this.pinned,
      height: isPair ? Math.max(330, height / 1.15) : height,
      other: panels[1] && panels[1].run !== panels[0].run ? panels[1] : null, runName: (run) => this.runName(run),
      window: (n) => this.window(n), row: (flow) => this.row(flow),
    };
    const actions = {
      step: (step) => this.set({ step }),
      layer: (layer) => this.set({ layer }),
      sentence: (name) => this.sentence(name, { view: state.view === "run" ? "network" : state.view }),
      pin: (pinned) => { this.pinned = pinned; this.draw(); },
    };
    const draw = DRAWINGS[state.view];
    const [{ step }] = panels;
    if (this.isLong(step.n) && state.view !== "run") view.append(renderMinimap(this, panels[0]));
    if (!isPair) {
      draw(view, panels[0], context, actions);
      return;
    }
    const pair = el("div", { class: "pair" });
    view.append(pair);
    const [left, right] = panels;
    const inOrder = left.run === right.run && left.step.step > right.step.step ? [right, left] : panels;
    const columns = inOrder.map((panel) => el("section", {}, el("h2", { class: "panel-title" }, `${this.runName(panel.run)}, step ${panel.step.step}`, panel.step.prediction && el("small", {}, `${panel.step.prediction.class} ${percent(panel.step.prediction.probability, 1)}`))));
    pair.append(...columns);
    inOrder.forEach((panel, place) => draw(columns[place], panel, context, actions));
  }

  help(shown) {
    this.helping = shown;
    this.draw();
  }

  /** Close the help, and release the node that is kept. */
  release() {
    this.pinned = null;
    this.help(false);
  }

  toggleTheme() {
    const dark = (this.state.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    this.set({ theme: dark ? "light" : "dark" });
  }

  readAddress() {
    this.state = parseState(this.address.read());
  }

  writeAddress() {
    this.written = formatState(this.state);
    this.address.write(this.written);
  }
}
