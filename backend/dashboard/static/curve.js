// Learning curves: the score with its confidence band against labels, and what random order is estimated to reach.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const percent = (value) => (value == null ? "–" : `${(100 * value).toFixed(1)}%`);

/** Both curves on one axis of labels: uPlot wants a row for each place on it. */
function columns(curve) {
  const random = curve.random_order?.points ?? [];
  const places = [...new Set([...curve.points, ...random].map((point) => point.labels))].sort((a, b) => a - b);
  const last = (points, labels) => points.findLast((point) => point.labels === labels);
  const column = (points, key) => places.map((labels) => last(points, labels)?.[key] ?? null);
  return [places, ...["score", "low", "high"].map((key) => column(curve.points, key)),
    ...(random.length ? ["score", "low", "high"].map((key) => column(random, key)) : [])];
}

function series(label, token, band, dash) {
  const line = { stroke: () => colour(token), spanGaps: true, value: (_, value) => percent(value) };
  const edge = { ...line, stroke: "transparent", points: { show: false } };
  return [{ ...line, label, width: 2, dash, points: { size: 6 } }, { ...edge, label: `${band} from` }, { ...edge, label: "to" }];
}

function draw(element, curve) {
  const data = columns(curve);
  const axis = { stroke: () => colour("--faint"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
  const random = data.length > 4;
  const chart = new uPlot({
    width: element.clientWidth,
    height: 300,
    scales: { x: { time: false }, y: { range: (_, low, high) => [Math.max(0, low - 0.02), Math.min(1, high + 0.02)] } },
    series: [{ label: "labels", value: (_, value) => value ?? "–" },
      ...series("the loop", "--accent", "95%"), ...(random ? series("random order, estimated", "--warn", "likely", [6, 4]) : [])],
    bands: [{ series: [3, 2], fill: () => colour("--band") }],
    axes: [{ ...axis, label: "labels", labelSize: 20, size: 34 }, { ...axis, size: 52, values: (_, values) => values.map((value) => `${Math.round(100 * value)}%`) }],
  }, data, element);
  new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: 300 })).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.redraw());
}

async function drawAll() {
  const elements = [...document.querySelectorAll("[data-curve]")];
  if (!elements.length) return;
  const answer = await fetch(elements[0].dataset.curve);
  if (!answer.ok) return;
  const curves = await answer.json();
  for (const element of elements) draw(element, curves.find((curve) => curve.control === element.dataset.control));
}

drawAll();
