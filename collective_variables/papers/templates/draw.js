// Draw every figure as wide as its container, in the colours of the page. Offer its data as CSV.
const shown = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const theme = () => {
  const [ink, line] = [shown("--cv-ink"), shown("--cv-line")];
  const axis = {
    automargin: true, color: ink, gridcolor: line, linecolor: line, zerolinecolor: line,
    title: {standoff: 8},
  };
  const bar = {colorbar: {outlinewidth: 0, tickcolor: line}};
  return {layout: {
    font: {family: shown("--cv-font"), size: 12, color: ink},
    paper_bgcolor: "rgba(0, 0, 0, 0)", plot_bgcolor: "rgba(0, 0, 0, 0)",
    colorway: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"],
    coloraxis: bar, xaxis: axis, yaxis: axis,
    hoverlabel: {font: {family: shown("--cv-font")}},
  }};
};

const read = (place) => JSON.parse(document.getElementById(place.dataset.figure).textContent);

const draw = (place) => {
  const [figure, room] = [read(place), place.clientWidth];
  const chosen = figure.layouts.find(({least}) => least <= room) ?? figure.layouts.at(-1);
  const layout = {...chosen.layout, template: theme(), width: Math.min(room, chosen.most ?? room)};
  return Plotly.react(place, figure.data, layout, {displaylogo: false, displayModeBar: false});
};

// Arrays come as numbers or as bytes.
const TYPES = {
  f8: Float64Array, f4: Float32Array, i1: Int8Array, u1: Uint8Array, i2: Int16Array,
  u2: Uint16Array, i4: Int32Array, u4: Uint32Array,
};
const numbers = (values) => {
  if (!values?.bdata) return Array.from(values ?? []);
  const bytes = Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0));
  const flat = Array.from(new TYPES[values.dtype](bytes.buffer));
  const [, n] = String(values.shape ?? "").split(",").map(Number);
  if (!n) return flat;
  return Array.from({length: flat.length / n}, (_, row) => flat.slice(row * n, (row + 1) * n));
};

const COLUMNS = ["panel", "series", "x_name", "x", "y_name", "y", "low", "high", "value_name", "value"];

// Return the rows of a trace: one per point, or one per cell of a heat map.
const points = (trace, figure) => {
  const [x, y] = [numbers(trace.x), numbers(trace.y)];
  const {layout} = figure.layouts[0];
  const shared = {...figure.panels[trace.xaxis ?? "x"], series: trace.name};
  const bar = (axis) => layout[axis]?.colorbar?.title?.text ?? "";
  if (trace.type === "heatmap") {
    const z = numbers(trace.customdata ?? trace.z);
    const cells = {...shared, value_name: bar(trace.coloraxis)};
    return y.flatMap((b, row) => x.map((a, column) => ({...cells, x: a, y: b, value: z[row][column]})));
  }
  const [above, below] = [numbers(trace.error_y?.array), numbers(trace.error_y?.arrayminus)];
  const values = trace.marker?.coloraxis ? numbers(trace.customdata) : [];
  return x.map((a, row) => ({
    ...shared, x: a, y: y[row], low: below.length ? y[row] - below[row] : undefined,
    high: above.length ? y[row] + above[row] : undefined,
    value_name: values.length ? bar(trace.marker.coloraxis) : undefined, value: values[row],
  }));
};

// A band follows its line. Its outline has the upper edge from left to right, then the lower back.
const rows = (figure) => figure.data.reduce((all, trace) => {
  if (trace.fill !== "toself") return [...all, points(trace, figure)];
  const [y, line] = [numbers(trace.y), all.at(-1)];
  line?.forEach((row, k) => { row.high = y[k]; row.low = y[y.length - 1 - k]; });
  return all;
}, []).flat();

const csv = (figure) => {
  const [table, text] = [rows(figure), (cell) => Number.isNaN(cell) ? "" : String(cell ?? "")];
  const used = COLUMNS.filter((name) => table.some((row) => text(row[name]) !== ""));
  const quoted = (cell) => /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  const line = (row) => used.map((name) => quoted(text(row[name]))).join(",");
  return [used.join(","), ...table.map(line)].join("\n") + "\n";
};

const save = (button) => {
  const place = document.getElementById(button.dataset.plot);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(read(place))], {type: "text/csv"}));
  link.download = `${button.dataset.plot}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// Plotly's script is in gzip, which browsers have been able to unpack since 2023.
const load = async () => {
  const text = atob(document.getElementById("program").textContent);
  const packed = new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))]);
  const unpacked = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
};

const drawAll = async () => {
  const places = [...document.querySelectorAll(".plot")];
  if (!places.length) return;
  await load();
  places.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => places.forEach(draw));
  const widths = new Map(places.map((place) => [place, place.clientWidth]));
  const resized = new ResizeObserver((entries) => entries.forEach(({target}) => {
    if (target.clientWidth === widths.get(target)) return;
    widths.set(target, target.clientWidth);
    draw(target);
  }));
  places.forEach((place) => resized.observe(place));
  addEventListener("beforeprint", () => places.forEach(draw));
};

// Unfold a folded section when a link leads to it.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target?.closest("details");
  if (!folded) return;
  folded.open = true;
  target.scrollIntoView();
};

// Fold the contents on a phone, and mark the section in view.
const follow = () => {
  const list = document.querySelector(".contents details");
  if (!list) return;
  const narrow = matchMedia("(max-width: 63.99rem)");
  const fold = () => { list.open = !narrow.matches; };
  fold();
  narrow.addEventListener("change", fold);
  const links = [...list.querySelectorAll("a")];
  links.forEach((link) => link.addEventListener("click", () => { list.open = !narrow.matches; }));
  const mark = (name) => links.forEach((link) => {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) mark(entry.target.id);
  }), {rootMargin: "-10% 0px -80% 0px"});
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
};

follow();
addEventListener("hashchange", unfold);
unfold();
document.querySelectorAll("button[data-plot]").forEach((button) =>
  button.addEventListener("click", () => save(button)));
drawAll();
