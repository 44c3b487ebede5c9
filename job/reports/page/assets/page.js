"use strict";
// Draws the curves of a report, and renews a page that is served live. All data are in the page;
// names in them come from a store, so they become text and never HTML.
(() => {
  const byId = (id) => document.getElementById(id);
  const number = (value, digits = 4) =>
    value == null ? "none" : Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
  const count = (value) => value.toLocaleString("en");
  const HINT = "Point at the chart, or focus it and use the arrow keys. Drag, or + and −, zoom; 0 shows all.";
  const BORDER_LABELS = 40; // more numbers of attempts would hide each other

  let charts = JSON.parse(byId("charts").textContent);
  const plots = {};

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faded = (css) => `color-mix(in srgb, ${css} 55%, transparent)`;

  function extent(columns) {
    let low = Infinity, high = -Infinity;
    for (const column of columns)
      for (const value of column)
        if (value != null) { if (value < low) low = value; if (value > high) high = value; }
    return [low, high];
  }

  function clipped(u, draw) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    draw(ctx, bbox);
    ctx.restore();
  }

  // Vertical lines where attempts begin, with their numbers where there is room.
  function drawBorders(u, edges) {
    const ratio = devicePixelRatio;
    clipped(u, (ctx, bbox) => {
      ctx.strokeStyle = faded(colour("--muted"));
      ctx.fillStyle = colour("--muted");
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.textBaseline = "top";
      ctx.lineWidth = ratio;
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      let free = -Infinity;
      for (const [step, attempt] of edges) {
        const x = Math.round(u.valToPos(step, "x", true)) + 0.5;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        if (edges.length <= BORDER_LABELS || x >= free) ctx.stroke();
        if (x >= free && x < bbox.left + bbox.width - 20 * ratio) {
          ctx.fillText(String(attempt), x + 4 * ratio, bbox.top + 2 * ratio);
          free = x + (14 + 7 * String(attempt).length) * ratio;
        }
      }
    });
  }

  // The steps that were lost.
  function drawBands(u, ranges) {
    clipped(u, (ctx, bbox) => {
      ctx.globalAlpha = 0.14;
      ctx.fillStyle = colour("--retrained");
      for (const [from, to] of ranges) {
        const left = u.valToPos(from, "x", true), right = u.valToPos(to, "x", true);
        ctx.fillRect(left, bbox.top, Math.max(devicePixelRatio, right - left), bbox.height);
      }
    });
  }

  // Dashed curves of epochs that were trained again later.
  function drawLost(u, runs, colours) {
    const ratio = devicePixelRatio;
    clipped(u, (ctx) => {
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash([4 * ratio, 3 * ratio]);
      for (const run of runs)
        run.y.forEach((column, index) => {
          ctx.strokeStyle = ctx.fillStyle = faded(colours[index]);
          ctx.beginPath();
          let drawn = 0;
          column.forEach((value, place) => {
            if (value == null) return;
            const x = u.valToPos(run.x[place], "x", true), y = u.valToPos(value, "y", true);
            if (drawn++) ctx.lineTo(x, y); else ctx.moveTo(x, y);
            if (column.length <= 2) ctx.fillRect(x - 2 * ratio, y - 2 * ratio, 4 * ratio, 4 * ratio);
          });
          ctx.stroke();
        });
    });
  }

  function axis(extra) {
    return {
      stroke: colour("--muted"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1, size: 4 },
      ...extra,
    };
  }

  function readout(u, names, unit) {
    const index = u.cursor.idx;
    if (index == null || u.cursor.left < 0) return HINT;
    const values = names.map((name, place) => `${name} ${number(u.data[place + 1][index])}${unit}`);
    return `step ${count(u.data[0][index])}: ${values.join(", ")}`;
  }

  function build(key, chart, { log = false, unit = "", dots = false }) {
    const box = byId(`${key}-chart`), out = byId(`${key}-readout`);
    const old = plots[key];
    const zoom = old && old.zoomed && old.name === chart.name ? { ...old.u.scales.x } : null;
    if (old) old.u.destroy();
    const colours = ["--accent", "--second"].map(colour);
    const lost = chart.lost || [];
    const width = Math.max(200, printing() ? Math.min(box.clientWidth, 680) : box.clientWidth);
    const lostRange = extent(lost.flatMap((run) => run.y));
    const steps = extent([chart.x, ...lost.map((run) => run.x)]);
    const state = { name: chart.name, zoomed: false };
    const options = {
      width,
      height: key === "save" ? 200 : width < 560 ? 240 : 330,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false, setScale: true } },
      scales: {
        x: { time: false, range: (u, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: {
          distr: log ? 3 : 1,
          range: (u, low, high) => {
            const min = Math.min(low ?? Infinity, lostRange[0]), max = Math.max(high ?? -Infinity, lostRange[1]);
            if (!(min <= max)) return log ? [1, 10] : [0, 1];
            if (log) return uPlot.rangeLog(min, max, 10, false);
            return key === "save" ? [0, max * 1.05 || 1] : uPlot.rangeNum(min, max, 0.08, false);
          },
        },
      },
      axes: [
        axis({ size: 30, values: (u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? count(tick) : "")) }),
        axis({ size: 62, values: (u, ticks) => ticks.map((tick) => (tick == null ? "" : number(tick, 6) + unit)) }),
      ],
      series: [
        {},
        ...chart.y.map((column, index) => ({
          stroke: colours[index],
          fill: undefined,
          width: dots ? 0 : 2,
          spanGaps: true,
          paths: dots ? () => null : undefined,
          points: { show: dots || column.length < 40, size: dots ? 4 : 5, fill: colours[index] },
        })),
      ],
      hooks: {
        drawAxes: key === "metric" ? [(u) => drawBands(u, charts.bands), (u) => drawBorders(u, charts.borders)] : [],
        draw: [(u) => drawLost(u, lost, colours)],
        setCursor: [(u) => { out.textContent = readout(u, chart.names, unit); }],
        setScale: [(u, scale) => {
          if (scale === "x") state.zoomed = u.scales.x.min > steps[0] || u.scales.x.max < steps[1];
        }],
      },
    };
    state.u = new uPlot(options, [chart.x, ...chart.y], box);
    plots[key] = state;
    if (zoom) state.u.setScale("x", { min: zoom.min, max: zoom.max });
    else if (steps[0] < steps[1]) state.u.setScale("x", { min: steps[0], max: steps[1] });
    state.steps = steps;
    out.textContent = HINT;
  }

  function legend(list, entries) {
    list.replaceChildren(...entries.map(([kind, text]) => {
      const item = document.createElement("li"), mark = document.createElement("i"), name = document.createElement("bdi");
      mark.className = `stroke ${kind}`;
      name.textContent = text;
      item.append(mark, name);
      return item;
    }));
  }

  function showMetric() {
    const metrics = charts.metrics, box = byId("metric"), select = byId("metric-name");
    box.hidden = !metrics.length;
    if (!metrics.length) return;
    const known = [...select.options].map((option) => option.value);
    const names = metrics.map((metric) => metric.name);
    if (known.join("\n") !== names.join("\n")) {
      const chosen = select.value;
      select.replaceChildren(...names.map((name) => new Option(name, name)));
      select.value = names.includes(chosen) ? chosen : names[0];
    }
    byId("metric-choice").hidden = names.length < 2;
    const chart = metrics[Math.max(0, select.selectedIndex)];
    const lowest = extent([...chart.y, ...chart.lost.flatMap((run) => run.y)])[0];
    const log = byId("metric-log");
    log.disabled = !(lowest > 0);
    byId("metric-chart").setAttribute("aria-label", `Curves of ${chart.name} over steps; the table below has their values`);
    legend(byId("metric-legend"), [
      ...chart.names.map((name, index) => [index ? "second" : "", name]),
      ...(charts.bands.length ? [["band", "steps lost"]] : []),
      ...(chart.lost.length ? [["lost", "epochs lost"]] : []),
      ...(charts.borders.length ? [["edge", "a new attempt"]] : []),
    ]);
    build("metric", chart, { log: log.checked && !log.disabled });
  }

  function showSaves() {
    const saves = charts.saves;
    byId("save").hidden = !saves.x.length;
    if (!saves.x.length) return;
    const names = ["until durable", "training stalled"];
    legend(byId("save-legend"), names.map((name, index) => [index ? "dot second" : "dot", name]));
    build("save", { ...saves, name: "saves", names }, { unit: " s", dots: true });
  }

  const printing = () => matchMedia("print").matches;
  function show() {
    showMetric();
    showSaves();
  }

  function onKey(key, event) {
    const { u, steps } = plots[key], xs = u.data[0];
    const { min, max } = u.scales.x, middle = (min + max) / 2;
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      const from = u.cursor.idx ?? (moves[event.key] > 0 ? -1 : xs.length);
      const index = Math.max(0, Math.min(xs.length - 1, from + moves[event.key]));
      u.setCursor({ left: u.valToPos(xs[index], "x"), top: 10 });
    } else if (event.key === "+" || event.key === "=") {
      u.setScale("x", { min: middle - (max - min) / 4, max: middle + (max - min) / 4 });
    } else if (event.key === "-") {
      u.setScale("x", { min: Math.max(steps[0], middle - (max - min)), max: Math.min(steps[1], middle + (max - min)) });
    } else if (event.key === "0") {
      u.setScale("x", { min: steps[0], max: steps[1] });
    } else return;
    event.preventDefault();
  }

  for (const key of ["metric", "save"]) {
    const box = byId(`${key}-chart`);
    box.addEventListener("keydown", (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey) onKey(key, event); });
    let width = 0;
    new ResizeObserver(([entry]) => {
      const now = Math.round(entry.contentRect.width);
      if (now && now !== width && plots[key] && !printing()) plots[key].u.setSize({ width: Math.max(200, now), height: plots[key].u.height });
      width = now;
    }).observe(box);
  }
  byId("metric-name").addEventListener("change", showMetric);
  byId("metric-log").addEventListener("change", showMetric);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", show);
  show();

  // A page that is served live: ask for the data, and put in what has changed.
  const poll = Number(document.body.dataset.poll);
  if (!poll) return;
  const status = byId("live"), shown = {};
  let etag = null, columns = JSON.stringify(charts);

  function say(text, broken) {
    status.classList.toggle("broken", broken);
    if (status.textContent !== text) status.textContent = text;
  }

  // A section in which the keyboard's focus is stays as it is until the focus has left it.
  function put(element, html) {
    const name = element.dataset.section;
    if (shown[name] === html) return;
    if (element.contains(document.activeElement)) {
      document.activeElement.addEventListener("blur", () => setTimeout(() => put(element, html)), { once: true });
      return;
    }
    shown[name] = html;
    element.innerHTML = html; // made by the same templates as the page, which escape all names
  }

  function apply(data) {
    for (const element of document.querySelectorAll("[data-section]")) put(element, data.sections[element.dataset.section]);
    const now = JSON.stringify(data.charts);
    if (now === columns) return;
    columns = now;
    charts = data.charts;
    show();
  }

  async function renew() {
    try {
      const answer = await fetch("data.json", { cache: "no-store", headers: etag ? { "If-None-Match": etag } : {} });
      if (answer.status === 200) {
        const data = await answer.json();
        etag = answer.headers.get("ETag");
        apply(data);
      }
      if (answer.status === 503) say(`The run can't be read, shown is its last known state: ${(await answer.json()).reason}`, true);
      else if (answer.ok || answer.status === 304) say("Live: renewed every few seconds", false);
      else say(`The server answers with ${answer.status}`, true);
    } catch {
      say("keepfit report --serve does not answer: it may have ended. Shown is the last known state.", true);
    }
    setTimeout(renew, poll * 1000);
  }
  setTimeout(renew, poll * 1000);
})();
