// The page of the embedding map: what is shown of the points, what is known of one, what is chosen.
import createScatterplot from "regl-scatterplot";
import { readPoints } from "./map_points.js";
import { palettes } from "./map_colours.js";
import { steer } from "./map_steering.js";

const root = document.querySelector("#map");
const canvas = root.querySelector("canvas");
const card = root.querySelector(".map-card");
const pinned = root.querySelector(".map-pinned");
const chosenPanel = document.querySelector("#chosen");
const message = root.querySelector(".map-message");
const colourBy = document.querySelector("#colour-by");
const boxes = [...document.querySelectorAll("[data-kind]")];
const lassoButton = document.querySelector("#lasso");

const REFRESH_MS = 30_000;
const CLICK_MS = 400; // within which a click belongs to the line just drawn
const HOVER_MS = 120; // before a thumbnail is asked for
const THUMBNAILS = 50;
const STYLES = [
  { below: 2_000, size: 7, opacity: 0.9 },
  { below: 20_000, size: 5, opacity: 0.6 },
  { below: 200_000, size: 3, opacity: 0.35 },
  { below: Infinity, size: 2, opacity: 0.2 },
];

let points = null; // see map_points.js
let shown = new Uint32Array(); // positions in `points` of what is drawn
let drawnOfColour = []; // how many points have each colour
let etag = null;
let plot = null;
let lassoing = false; // the next selection comes of a line
let drawnAround = { drawn: [], at: -Infinity }; // the last such selection

const task = (drawn) => points.ids[shown[drawn]];

function start() {
  if (!document.createElement("canvas").getContext("webgl")) return;
  plot = createScatterplot({
    canvas,
    width: "auto",
    height: "auto",
    colorBy: "valueA",
    opacityBy: "valueA",
    sizeBy: "valueA",
    spatialIndexUseWorker: false, // one made of a text, which this page's security policy forbids
    lassoMinDelay: 4,
  });
  plot.subscribe("pointover", (drawn) => hover(drawn));
  plot.subscribe("pointout", unhover);
  plot.subscribe("lassoStart", () => {
    lassoing = true;
    unhover();
  });
  // After the selection that comes of it; around nothing there is none.
  plot.subscribe("lassoEnd", () => setTimeout(() => {
    lassoing = false;
    setLasso(false);
  }));
  plot.subscribe("select", ({ points: drawn }) => choose(drawn));
  plot.subscribe("deselect", () => choose([]));
  plot.subscribe("view", unhover);
  steer(plot, canvas, root, restyle);
}

async function load() {
  const response = await fetch(root.dataset.points, { cache: "no-cache" }).catch(() => null);
  if (!response?.ok) {
    const why = response?.status ?? "the server does not answer";
    tell(`The map could not be loaded (${why}). No label is lost; the page tries again by itself.`);
    return;
  }
  if (response.headers.get("ETag") === etag) {
    await response.body?.cancel();
    if (plot) tell("");
    return;
  }
  points = readPoints(await response.arrayBuffer());
  etag = response.headers.get("ETag");
  for (const box of boxes) {
    const kind = points.kinds.indexOf(box.dataset.kind);
    document.querySelector(`[data-count="${box.dataset.kind}"]`).textContent = points.counts[kind].toLocaleString();
  }
  if (!plot) {
    tell("This browser does not draw the map, because WebGL is off or missing. The table tells how many images there are.");
    return;
  }
  tell(points.ids.length ? "" : "No image has a place on the map yet.");
  await draw();
}

// Draw what the boxes and the choice of colours ask for.
async function draw({ sameplaces = false } = {}) {
  if (!points || !plot) return;
  const visible = boxes.map((box) => box.checked);
  if (!sameplaces) {
    const ranges = [];
    let first = 0;
    points.counts.forEach((count, kind) => {
      if (visible[kind]) ranges.push([first, first + count]);
      first += count;
    });
    shown = new Uint32Array(ranges.reduce((sum, [from, to]) => sum + to - from, 0));
    let at = 0;
    for (const [from, to] of ranges) for (let i = from; i < to; i++) shown[at++] = i;
  }
  const palette = palettes(root, points)[colourBy.value];
  const pick = (column, type) => {
    const picked = new type(shown.length);
    for (let i = 0; i < shown.length; i++) picked[i] = column[shown[i]];
    return picked;
  };
  const values = palette.values(pick(palette.column, Uint8Array));
  drawnOfColour = palette.colours.map(() => 0);
  for (const value of values) drawnOfColour[value]++;
  const style = getComputedStyle(root);
  plot.set({
    backgroundColor: style.getPropertyValue("--map-ground").trim(),
    pointColor: palette.colours,
    pointColorActive: style.getPropertyValue("--map-active").trim(),
    pointColorHover: style.getPropertyValue("--map-active").trim(),
    lassoColor: style.getPropertyValue("--map-active").trim(),
  });
  restyle();
  showKey(palette);
  await plot.draw(
    { x: pick(points.x, Float32Array), y: pick(points.y, Float32Array), valueA: values },
    { zDataType: "categorical", ...(sameplaces ? { spatialIndex: plot.get("spatialIndex") } : {}) },
  );
  canvas.dataset.drawn = shown.length;
}

// The more points of a colour there are, the smaller and fainter they are: dense places can be told from sparse
// ones, and the few are seen among the many. Closer up they grow stronger.
function restyle() {
  if (!points) return;
  const zoom = Math.max(1, 1 / plot.get("cameraDistance"));
  const styles = drawnOfColour.map((count) => STYLES.find(({ below }) => count < below));
  plot.set({
    pointSize: styles.map(({ size }) => size),
    opacity: styles.map(({ opacity }) => Math.min(0.95, opacity * zoom)),
  });
}

function showKey(palette) {
  const key = document.querySelector("#colour-key");
  key.hidden = colourBy.value === "kind";
  key.replaceChildren(
    ...palette.names.map((name, i) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "key";
      swatch.style.background = palette.colours[i];
      item.append(swatch, name);
      return item;
    }),
  );
}

function tell(text) {
  message.textContent = text;
  message.hidden = !text;
}

// Of the point under the pointer: its card, asked for once the pointer has stayed, and dropped when it has moved on.
let hovering = null;
function hover(drawn) {
  unhover();
  if (lassoing) return;
  hovering = new AbortController();
  const { signal } = hovering;
  setTimeout(async () => {
    if (signal.aborted) return;
    const html = await fetchCard(task(drawn), signal);
    if (html === null || signal.aborted) return;
    card.innerHTML = html;
    card.hidden = false;
    const [x, y] = plot.getScreenPosition(drawn);
    const box = canvas.getBoundingClientRect();
    const frame = card.offsetParent.getBoundingClientRect();
    const left = x + 16 + card.offsetWidth > box.width ? Math.max(0, x - 16 - card.offsetWidth) : x + 16;
    card.style.left = `${left + box.left - frame.left}px`;
    card.style.top = `${Math.max(0, Math.min(y, box.height - card.offsetHeight)) + box.top - frame.top}px`;
  }, HOVER_MS);
}

function unhover() {
  hovering?.abort();
  card.hidden = true;
}

async function fetchCard(id, signal) {
  try {
    const response = await fetch(root.dataset.card.replace("/0/", `/${id}/`), { signal, headers: { "HX-Request": "true" } });
    return await response.text();
  } catch {
    return null; // the pointer has moved on, or the server is away
  }
}

async function choose(drawn) {
  const byLasso = lassoing;
  lassoing = false;
  setLasso(false);
  unhover();
  // A line that ends where it began looks like a click to the scatter plot.
  if (!byLasso && performance.now() - drawnAround.at < CLICK_MS) {
    plot.select(drawnAround.drawn, { preventEvent: true });
    return;
  }
  if (byLasso) drawnAround = { drawn, at: performance.now() };
  if (drawn.length === 1 && !byLasso) {
    const html = await fetchCard(task(drawn[0]));
    if (html === null) return;
    pinned.querySelector("div").innerHTML = html;
    pinned.hidden = false;
    return;
  }
  pinned.hidden = true;
  list(Array.from(drawn, task).sort((a, b) => a - b));
}

function list(ids) {
  chosenPanel.hidden = !ids.length;
  if (!ids.length) return;
  const most = Number(chosenPanel.dataset.most);
  chosenPanel.querySelector("h2").textContent = `${ids.length.toLocaleString()} ${ids.length === 1 ? "task" : "tasks"} chosen`;
  const open = chosenPanel.querySelector("a");
  open.href = `${root.dataset.open}?tasks=${ids.slice(0, most).join(",")}`;
  open.textContent = ids.length > most ? `Open the first ${most} in Label Studio` : "Open in Label Studio";
  chosenPanel.querySelector("textarea").value = ids.join(",");
  chosenPanel.querySelector(".more").hidden = ids.length <= THUMBNAILS;
  chosenPanel.querySelector("ol").replaceChildren(
    ...ids.slice(0, THUMBNAILS).map((id) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = root.dataset.task + id;
      const image = document.createElement("img");
      image.loading = "lazy";
      image.alt = `Task ${id}`;
      image.src = root.dataset.thumbnail.replace("/0/", `/${id}/`);
      link.append(image);
      item.append(link);
      return item;
    }),
  );
}

function setLasso(on) {
  if (!plot) return;
  plot.set({ mouseMode: on ? "lasso" : "panZoom" });
  lassoButton.setAttribute("aria-pressed", on);
}

if (root.dataset.points) {
  start();
  lassoButton.addEventListener("click", () => setLasso(lassoButton.getAttribute("aria-pressed") !== "true"));
  document.querySelector("#in-view").addEventListener("click", () => {
    if (!plot) return;
    lassoing = true; // a list, of a single one as well
    plot.select(plot.get("pointsInView"));
  });
  pinned.querySelector("button").addEventListener("click", () => plot.deselect());
  chosenPanel.querySelector("button.copy").addEventListener("click", async () => {
    const ids = chosenPanel.querySelector("textarea");
    ids.select();
    await navigator.clipboard?.writeText(ids.value);
  });
  boxes.forEach((box) => box.addEventListener("change", () => draw()));
  colourBy.addEventListener("change", () => draw({ sameplaces: true }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw({ sameplaces: true }));
  await load();
  setInterval(() => document.visibilityState === "visible" && load(), REFRESH_MS);
}
