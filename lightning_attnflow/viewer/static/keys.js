// The keyboard: arrow keys through steps and sentences, numbers for the views.
import { sortedSentences } from "./overview.js";

export async function handleKey(app, event) {
  if (event.target.matches?.("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") app.help(!app.helping);
  else if (event.key === "Escape") app.release();
  else if (/^[1-4]$/.test(event.key)) app.root.querySelectorAll("[data-view]")[event.key - 1]?.click();
  else if (event.key.startsWith("Arrow") && app.state.run) {
    event.preventDefault();
    await move(app, event.key);
  }
}

async function move(app, key) {
  const { state } = app;
  const { sentences } = await app.loader.index(state.run);
  const change = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1;
  const next = (list, current) => list[Math.max(0, Math.min(list.length - 1, list.indexOf(current) + change))];
  if (key === "ArrowLeft" || key === "ArrowRight") {
    app.set({ step: next(sentences.find(({ name }) => name === state.name).steps, state.step) });
  } else {
    app.sentence(next(sortedSentences(sentences, state.order).map(({ name }) => name), state.name));
  }
}
