// The live page: what readers wait for, seen from the proxy. It asks for `stats` once, then listens to `stats/stream`.
//
// Keys, groups and addresses come from strangers. So every word reaches the page as text (`textContent`, or an
// attribute that holds nothing but words), never as markup.

const WINDOW = 300; // seconds that the page remembers and draws
const GAP = 3.5; // seconds without a sample after which a line is broken instead of drawn through
const SILENCE = 6; // seconds without a word after which the stream counts as lost, though nobody closed it

// In the order in which they are stacked: what came at once lies at the bottom.
const OUTCOMES = [
  {
    name: 'hit',
    group: 'At once',
    says: 'A fresh copy from memory. The reader did not wait, the origin was not asked.',
  },
  {
    name: 'stale',
    group: 'At once',
    says: 'An old copy from memory, at once, while one refresh ran behind the reader.',
  },
  {
    name: 'fallback',
    group: 'At once',
    says:
      'The origin failed or took too long, so an old copy was served instead of ' +
      'an error. Most come at once; now and then one reader waits for a new attempt.',
  },
  {
    name: 'revalidated',
    group: 'Waited',
    says: 'The reader waited while the origin confirmed that the old copy still ' + 'holds (304).',
  },
  {
    name: 'replaced',
    group: 'Waited',
    says: 'The reader waited while the origin was asked about the old copy and sent a ' + 'newer one.',
  },
  {
    name: 'coalesced',
    group: 'Waited',
    says:
      'The reader waited for a request to the origin that another reader had ' + 'begun. The origin saw only one.',
  },
  { name: 'miss', group: 'Waited', says: 'Nothing was stored, so the reader waited for the origin.' },
  {
    name: 'uncacheable',
    group: 'Passed through',
    says:
      'The origin’s answer may not be stored: its fields forbid it, or ' +
      'no rule allows it. No cache could have saved this wait.',
  },
  {
    name: 'bypass',
    group: 'Passed through',
    says:
      'The request may not be answered from a cache: its method, or a rule ' +
      'of the configuration. No cache could have saved this wait.',
  },
  {
    name: 'error',
    group: 'Failed',
    says: 'The origin gave no answer and nothing was stored that could stand in. The ' + 'reader got an error.',
  },
];
const NAMES = OUTCOMES.map((outcome) => outcome.name);
const AT_ONCE = ['hit', 'stale', 'fallback'];
const WAITED = ['revalidated', 'replaced', 'coalesced', 'miss', 'error'];

const byId = (id) => document.getElementById(id);
const sum = (counts, names) => names.reduce((total, name) => total + number(counts?.[name]), 0);

// A field may be missing in an older or newer everfresh; the page then shows a zero instead of nothing at all.
function number(value) {
  return Number.isFinite(value) ? value : 0;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children); // strings become text nodes
  return made;
}

function shape(tag, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(id, text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
}

// ---- Words for numbers ----

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

function rate(value) {
  if (value >= 10000) return short.format(value);
  return value > 0 && value < 10
    ? String(Math.max(0.1, Math.round(value * 10) / 10))
    : whole.format(Math.round(value));
}

// Rounding must not turn "nearly" into "all" or "none": 99.97 is never shown as 100, and 0.004 never as 0.
function percent(part, of) {
  if (!(of > 0)) return '–';
  const value = Math.min(100, Math.max(0, (100 * part) / of));
  if (value === 0 || value === 100) return `${value} %`;
  if (value < 0.01) return '< 0.01 %';
  if (value > 99.99) return '> 99.99 %';
  return `${value < 1 || value > 99 ? value.toFixed(2) : value.toFixed(1)} %`;
}

function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = number(bytes);
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function milliseconds(value) {
  if (value >= 10000) return `${Math.round(value / 1000)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 10) return `${Math.round(value)} ms`;
  if (value >= 0.1) return `${Number(value.toFixed(1))} ms`;
  return value >= 0.001 ? `${Math.round(value * 1000)} µs` : '< 1 µs';
}

function duration(seconds) {
  const s = Math.floor(number(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 ? ` ${s % 60} s` : ''}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// An age to compare at a glance: one unit is enough.
function age(seconds) {
  const s = number(seconds);
  if (s < 100) return `${Math.floor(s)} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

// A key as text that cannot disturb its neighbours: control characters and those that turn the direction of writing
// are spelled out, and an endless key ends.
function plain(text) {
  const spelled = String(text ?? '')
    .slice(0, 400)
    .replace(
      /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
      (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
  return String(text ?? '').length > 400 ? `${spelled}…` : spelled;
}

// ---- What was seen ----

let samples = []; // oldest first; time is the proxy's own uptime, so a gap in the stream is a gap in the drawing
let latest = null;

const sampled = (stats) => ({
  time: number(stats?.uptime_s),
  rates: stats?.per_second ?? {},
  totals: stats?.requests ?? {},
  wait: stats?.reader_wait_ms ?? {},
  origin: stats?.origin_ms ?? {},
  originRequests: number(stats?.origin_requests),
});

function remember(stats) {
  const sample = sampled(stats);
  const { time } = sample;
  // The proxy began anew: its counters did too, and nothing before can be compared with them.
  if (samples.length && time < samples.at(-1).time) samples = [];
  if (samples.length && time === samples.at(-1).time) samples.pop();
  samples.push(sample);
  while (samples[0].time < time - WINDOW) samples.shift();
  latest = stats;
}

// What was before this page was opened, or while it did not listen: the proxy remembers as long as the page does.
async function recall() {
  let past;
  try {
    const response = await fetch('stats/history', { signal: AbortSignal.timeout(5000) });
    past = response.ok ? await response.json() : null;
  } catch {
    return; // an older everfresh, or one that is away: then the drawing begins now
  }
  if (!Array.isArray(past) || !past.length || !samples.length) return;
  const { time } = samples.at(-1);
  const known = past.map(sampled).filter((sample) => sample.time >= time - WINDOW && sample.time < time);
  const last = known.at(-1)?.time ?? -1;
  samples = [...known, ...samples.filter((sample) => sample.time > last)];
  show();
}

// Counts of the drawn window, or since the start when only one sample is known yet.
function recent() {
  const last = samples.at(-1);
  const first = samples.length > 1 ? samples[0] : null;
  const counts = {};
  for (const name of NAMES) counts[name] = number(last.totals[name]) - number(first?.totals[name]);
  return {
    counts,
    originRequests: last.originRequests - (first?.originRequests ?? 0),
    words: first ? `in the last ${duration(last.time - first.time)}` : 'since the start',
  };
}

// ---- Charts ----

// A frame with a time axis to the left of "now", and a cursor that mouse and arrow keys move. What is drawn inside, and
// what a moment says, comes from its owner.
class Chart {
  constructor(id, { label, draw, tell }) {
    this.place = byId(id);
    this.draw = draw;
    this.tell = tell;
    this.at = null; // the chosen moment in seconds ago
    this.svg = shape('svg', { 'aria-hidden': 'true' });
    this.tip = element('div', { class: 'tip', 'aria-hidden': 'true', hidden: '' });
    this.place.append(this.svg, this.tip);
    // A slider over time: a screen reader speaks what each moment says as the arrow keys move through it.
    for (const [name, value] of Object.entries({
      tabindex: '0',
      role: 'slider',
      'aria-label': label,
      'aria-valuemin': -WINDOW,
      'aria-valuemax': 0,
      'aria-valuenow': 0,
      'aria-valuetext': 'No numbers yet',
    }))
      this.place.setAttribute(name, value);
    this.place.addEventListener('pointermove', (event) => this.point(event));
    this.place.addEventListener('pointerdown', (event) => this.point(event));
    this.place.addEventListener('pointerleave', () => this.choose(null));
    this.place.addEventListener('blur', () => this.choose(null));
    this.place.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.paint()).observe(this.place);
  }

  point(event) {
    const x = event.clientX - this.place.getBoundingClientRect().left;
    this.choose(Math.round(((this.right - x) / (this.right - this.left)) * this.span));
  }

  key(event) {
    const step = { ArrowLeft: 1, ArrowDown: 1, PageDown: 30, ArrowRight: -1, ArrowUp: -1, PageUp: -30 }[event.key];
    if (step) this.choose((this.at ?? 0) + step);
    else if (event.key === 'Home') this.choose(this.span);
    else if (event.key === 'End') this.choose(0);
    else if (event.key === 'Escape') this.choose(null);
    else return;
    event.preventDefault();
  }

  choose(ago) {
    this.at = ago === null ? null : Math.min(Math.max(ago, 0), this.span);
    this.paint();
  }

  paint() {
    if (!samples.length) return;
    this.width = this.place.clientWidth;
    this.height = this.place.clientHeight;
    this.left = 46;
    this.right = this.width - 4;
    this.top = 12;
    this.bottom = this.height - 24;
    const now = samples.at(-1).time;
    // A page that has just been opened has little to show: it begins with a minute and widens to five.
    this.span = Math.min(WINDOW, Math.max(60, now - samples[0].time));
    this.x = (time) => this.right - ((now - time) / this.span) * (this.right - this.left);
    this.svg.replaceChildren();
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
    this.draw(this);
    this.timeAxis();
    this.showMoment(now);
  }

  timeAxis() {
    let step = this.span > 200 ? 60 : this.span > 90 ? 30 : 15;
    // On a phone every second word would lie over the first.
    if ((step / this.span) * (this.right - this.left) < 62) step *= 2;
    for (let ago = 0; ago <= this.span; ago += step) {
      const x = this.right - (ago / this.span) * (this.right - this.left);
      const words = ago === 0 ? 'now' : ago % 60 === 0 ? `−${ago / 60} min` : `−${ago} s`;
      const anchor = ago === 0 ? 'end' : x - this.left < 20 ? 'start' : 'middle';
      this.svg.append(shape('text', { class: 'axis', x, y: this.height - 5, 'text-anchor': anchor }, words));
    }
  }

  line(value, words) {
    const y = this.y(value);
    this.svg.prepend(shape('line', { class: 'grid', x1: this.left, x2: this.right, y1: y, y2: y }));
    this.svg.append(shape('text', { class: 'axis', x: this.left - 7, y: y + 4, 'text-anchor': 'end' }, words));
  }

  nothing(words) {
    const [x, y] = [(this.left + this.right) / 2, (this.top + this.bottom) / 2 - 10];
    this.svg.append(shape('text', { class: 'axis nothing', x, y, 'text-anchor': 'middle' }, words));
  }

  showMoment(now) {
    const time = now - (this.at ?? 0);
    const sample = samples.reduce((a, b) => (Math.abs(b.time - time) < Math.abs(a.time - time) ? b : a));
    const known = Math.abs(sample.time - time) <= GAP;
    const when = this.at ? `${duration(this.at)} ago` : 'Now';
    const rows = known ? this.tell(sample) : [];
    this.place.setAttribute('aria-valuenow', -(this.at ?? 0));
    this.place.setAttribute(
      'aria-valuetext',
      known
        ? `${when}: ${rows.map((row) => `${row.name} ${row.value}`).join(', ') || 'nothing'}`
        : `${when}: this page was not listening`,
    );
    this.tip.hidden = this.at === null;
    if (this.at === null) return;
    const x = this.x(time);
    this.svg.append(shape('line', { class: 'cursor', x1: x, x2: x, y1: this.top, y2: this.bottom }));
    this.tip.replaceChildren(
      element('b', {}, when),
      ...(known ? rows : [{ name: 'this page was not listening', value: '' }]).map((row) =>
        element('span', {}, element('i', { class: row.swatch ?? '' }), row.name, element('em', {}, row.value)),
      ),
    );
    const room = x > this.width / 2;
    this.tip.style.left = room ? 'auto' : `${x + 12}px`;
    this.tip.style.right = room ? `${this.width - x + 12}px` : 'auto';
  }
}

// Runs of samples without a gap between them.
function runs(accept = () => true) {
  const found = [];
  let before = null;
  for (const sample of samples) {
    if (!accept(sample)) {
      before = null;
      continue;
    }
    if (before === null || sample.time - before > GAP) found.push([]);
    found.at(-1).push(sample);
    before = sample.time;
  }
  return found;
}

// The next of 1, 2, 5, 10, 20, 50 … that gives at most four steps.
function niceStep(top) {
  const power = 10 ** Math.floor(Math.log10(top / 4));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => top / step <= 4);
}

const path = (points) => points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

const drawn = new Set(NAMES); // what the legend has switched on
let chosen = null; // the outcome whose explanation is open

const outcomesChart = new Chart('outcomes-chart', {
  label: 'Requests by outcome over time. Arrow keys move through the last five minutes.',
  tell: (sample) =>
    OUTCOMES.filter(({ name }) => drawn.has(name) && number(sample.rates[name]) > 0)
      .reverse()
      .map(({ name }) => ({ name, value: `${rate(sample.rates[name])} /s`, swatch: `swatch ${name}` })),
  draw(chart) {
    const shown = NAMES.filter((name) => drawn.has(name));
    const highest = Math.max(1, ...samples.map((sample) => sum(sample.rates, shown)));
    const step = niceStep(highest);
    const top = Math.ceil(highest / step) * step;
    chart.y = (value) => chart.bottom - (value / top) * (chart.bottom - chart.top);
    for (const run of runs()) {
      const floor = run.map(() => 0);
      // A lone sample is drawn as the second that it speaks for.
      const times = run.length > 1 ? run.map((sample) => sample.time) : [run[0].time - 1, run[0].time];
      for (const name of shown) {
        const ceiling = run.map((sample, i) => floor[i] + number(sample.rates[name]));
        if (ceiling.some((value, i) => value > floor[i])) {
          const edge = (values) => times.map((time, i) => [chart.x(time), chart.y(values[i] ?? values[0])]);
          const d = `${path(edge(ceiling))}${path(edge(floor).reverse()).replace('M', 'L')}Z`;
          chart.svg.append(shape('path', { class: `area ${name}${name === chosen ? ' chosen' : ''}`, d }));
        }
        ceiling.forEach((value, i) => {
          floor[i] = value;
        });
      }
    }
    chart.svg.setAttribute('class', chosen && drawn.has(chosen) ? 'faded' : '');
    if (samples.every((sample) => sum(sample.rates, shown) === 0)) chart.nothing('No requests in this time');
    for (let value = 0; value <= top; value += step) chart.line(value, rate(value));
  },
});

let measure = 'p99';

const served = (sample) => sum(sample.rates, NAMES) > 0;
const asked = (sample) => number(sample.origin[measure]) > 0;

const latencyChart = new Chart('latency-chart', {
  label: 'Reader wait against origin latency over time. Arrow keys move through the last five minutes.',
  tell: (sample) => [
    {
      name: 'reader wait',
      value: served(sample) ? milliseconds(number(sample.wait[measure])) : '–',
      swatch: 'line wait',
    },
    {
      name: 'origin',
      value: asked(sample) ? milliseconds(sample.origin[measure]) : 'not asked',
      swatch: 'line origin',
    },
  ],
  draw(chart) {
    const values = samples
      .flatMap((sample) => [sample.wait[measure], sample.origin[measure]])
      .filter((value) => number(value) > 0);
    // Whole decades, and at least two: a quiet minute must not look like a storm. Below a hundredth all is "nothing".
    const low = Math.max(-2, Math.floor(Math.log10(Math.min(1, ...values))));
    const high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(1, ...values))));
    chart.y = (value) => {
      const decade = Math.max(low, Math.log10(Math.max(number(value), 1e-9)));
      return chart.bottom - ((decade - low) / (high - low)) * (chart.bottom - chart.top);
    };
    const points = (run, of) => run.map((sample) => [chart.x(sample.time), chart.y(sample[of][measure])]);
    for (const run of runs((sample) => served(sample) && asked(sample))) {
      const d = `${path(points(run, 'origin'))}${path(points(run, 'wait').reverse()).replace('M', 'L')}Z`;
      chart.svg.append(shape('path', { class: 'band', d }));
    }
    for (const [of, accept] of [
      ['origin', asked],
      ['wait', served],
    ]) {
      for (const run of runs(accept)) chart.svg.append(shape('path', { class: of, d: path(points(run, of)) }));
    }
    if (!values.length) chart.nothing('Nobody asked in this time');
    for (let decade = low; decade <= high; decade += 1) chart.line(10 ** decade, milliseconds(10 ** decade));
  },
});

// ---- The legend: the numbers now, what is drawn, and what each outcome means ----

const legendRows = {};

function explain(outcome) {
  chosen = outcome?.name ?? null;
  const place = byId('explain');
  place.replaceChildren(
    ...(outcome
      ? [element('i', { class: `swatch ${outcome.name}` }), element('b', {}, ` ${outcome.name} `), outcome.says]
      : [
          'Point at an outcome, or move to it with the Tab key, to read what it means. ' +
            'Press it to leave it out of the chart.',
        ]),
  );
  outcomesChart.paint();
}

function drawOnly(names) {
  drawn.clear();
  names.forEach((name) => drawn.add(name));
  showChoice();
}

function showChoice() {
  const same = (names) => String(names.length === drawn.size && names.every((name) => drawn.has(name)));
  byId('draw-all').setAttribute('aria-pressed', same(NAMES));
  byId('draw-waited').setAttribute('aria-pressed', same(WAITED));
  for (const name of NAMES) legendRows[name].button.setAttribute('aria-pressed', String(drawn.has(name)));
  outcomesChart.paint();
}

function buildLegend() {
  for (const group of new Set(OUTCOMES.map((outcome) => outcome.group))) {
    const box = element('div', {}, element('h3', {}, group));
    for (const outcome of OUTCOMES.filter((each) => each.group === group)) {
      const now = element('span', { class: 'rate' });
      const ever = element('span', { class: 'ever' });
      const button = element(
        'button',
        { type: 'button', 'aria-pressed': 'true', 'aria-describedby': `says-${outcome.name}` },
        element('i', { class: `swatch ${outcome.name}` }),
        element('span', { class: 'word' }, outcome.name),
        now,
        ever,
      );
      button.addEventListener('pointerenter', () => explain(outcome));
      button.addEventListener('focus', () => explain(outcome));
      button.addEventListener('pointerleave', () => explain(null));
      button.addEventListener('blur', () => explain(null));
      button.addEventListener('click', () => {
        if (!drawn.delete(outcome.name)) drawn.add(outcome.name);
        showChoice();
      });
      box.append(button, element('span', { id: `says-${outcome.name}`, class: 'unseen' }, outcome.says));
      legendRows[outcome.name] = { button, now, ever };
    }
    byId('legend').append(box);
  }
  byId('draw-all').addEventListener('click', () => drawOnly(NAMES));
  byId('draw-waited').addEventListener('click', () => drawOnly(WAITED));
  explain(null);
}

// ---- The panels ----

function showHead() {
  say('name', plain(latest.name || 'everfresh'));
  say('version', plain(latest.version));
  const origins = [latest.origin ?? []].flat().map(plain);
  say('origins', origins.length ? `in front of ${origins.join(', ')}` : '');
  say('uptime', `up ${duration(latest.uptime_s)}`);
  showDemo(latest.demo);
}

// What a demo has to say is its own affair: a sentence, names and values, or what two crowds of readers saw.
function showDemo(demo) {
  byId('demo').hidden = !demo;
  const { with: cached, without: plainly, ...others } = demo && typeof demo === 'object' ? demo : { words: demo };
  const words = Object.entries(others).filter(([, value]) => value !== null && value !== undefined);
  const told = words.map(([name, value]) => (name === 'words' ? value : `${name.replaceAll('_', ' ')}: ${value}`));
  say('demo-words', told.length ? `Demo. ${plain(told.join(' · '))}` : '');
  byId('crowds').hidden = !cached || !plainly;
  if (!cached || !plainly) return;
  const row = (name, crowd) =>
    element(
      'tr',
      { class: name === 'with everfresh' ? 'with' : 'without' },
      element('th', { scope: 'row' }, name),
      ...[crowd.p50_ms, crowd.p99_ms, crowd.max_ms].map((wait) => element('td', {}, milliseconds(number(wait)))),
      element('td', {}, percent(number(crowd.errors), number(crowd.requests))),
      element('td', {}, whole.format(number(crowd.requests))),
    );
  byId('crowds-rows').replaceChildren(row('straight to the origin', plainly), row('with everfresh', cached));
}

function showHeadline() {
  const { counts, originRequests, words } = recent();
  const ever = latest.requests ?? {};
  const through = ['uncacheable', 'bypass'];
  // Readers of what no cache may answer are left out: their wait says nothing about this one.
  const could = sum(counts, NAMES) - sum(counts, through);
  const couldEver = sum(ever, NAMES) - sum(ever, through);
  const waited = sum(counts, WAITED);
  say('waited', percent(waited, could));
  say('waited-of', `${whole.format(waited)} of ${short.format(could)} ${words}`);
  say('waited-ever', couldEver > 0 ? `${percent(sum(ever, WAITED), couldEver)} since the start` : 'no reader came yet');
  const share = could > 0 ? waited / could : 0;
  document.querySelector('.lead').dataset.mood = share > 0.05 ? 'waiting' : 'calm';

  const all = sum(counts, NAMES);
  const allEver = sum(ever, NAMES);
  say('ratio', percent(sum(counts, AT_ONCE), all));
  say('ratio-ever', allEver > 0 ? `${percent(sum(ever, AT_ONCE), allEver)} since the start` : '');
  const savedEver = Math.max(0, allEver - number(latest.origin_requests));
  const saved = Math.max(0, all - originRequests);
  say('saved', percent(saved, all));
  say('saved-of', `${short.format(all)} requests cost ${short.format(originRequests)} to the origin`);
  say('saved-ever', `${short.format(savedEver)} saved since the start`);

  const { bytes, capacity_bytes: capacity } = latest;
  say('bytes', size(bytes));
  say(
    'bytes-of',
    capacity > 0
      ? `${percent(number(bytes), capacity)} of ${size(capacity)} · ${whole.format(number(latest.entries))} entries`
      : `${whole.format(number(latest.entries))} entries`,
  );
  byId('bytes-bar').value = capacity > 0 ? Math.min(1, number(bytes) / capacity) : 0;
}

function showOutcomes() {
  const rates = latest.per_second ?? {};
  say('outcomes-now', `${rate(sum(rates, NAMES))} per second now`);
  for (const name of NAMES) {
    const { now, ever } = legendRows[name];
    now.textContent = `${rate(number(rates[name]))} /s`;
    now.classList.toggle('zero', !(rates[name] > 0));
    ever.textContent = short.format(number(latest.requests?.[name]));
  }
  const last = samples.at(-1);
  say('wait-now', served(last) ? milliseconds(number(last.wait[measure])) : '–');
  say('origin-now', asked(last) ? milliseconds(last.origin[measure]) : '–');
}

function showRefreshes() {
  const refreshes = latest.refreshes ?? {};
  for (const name of ['started', 'running', 'renewed', 'replaced', 'failed', 'skipped']) {
    say(name, whole.format(number(refreshes[name])));
  }
  say('backing', whole.format(number(refreshes.backing_off)));
  byId('backing-box').dataset.mood = refreshes.backing_off > 0 ? 'backing' : 'calm';
  say('waiters', whole.format(number(latest.waiters)));
  say('origin-requests', whole.format(number(latest.origin_requests)));
  say('origin-errors', whole.format(number(latest.origin_errors)));
  say('entries', whole.format(number(latest.entries)));
  say('connections', whole.format(number(latest.connections)));
}

const STATES = {
  fresh: 'served from memory',
  stale: 'served at once, while a refresh runs behind',
  fallback: 'served only when the origin fails',
  load: 'readers wait for this one',
  refresh: 'runs behind the readers, nobody waits',
};

function badge(state) {
  const word = plain(state);
  return element('span', { class: 'badge', 'data-state': word, title: STATES[state] ?? '' }, word);
}

const key = (row) => element('span', { class: 'key', title: plain(row.key) }, plain(row.key));

// A list that is being pointed at or walked through holds still: nobody can press a row that runs away.
function held(list) {
  return (
    (window.matchMedia('(hover: hover)').matches && list.matches(':hover')) || list.contains(document.activeElement)
  );
}

function showKeys(id, rows, nothing) {
  const list = byId(id);
  if (held(list)) return;
  list.replaceChildren(
    ...(rows ?? []).slice(0, 12).map((row) => {
      const fill = element(
        'button',
        { type: 'button', class: 'fill', 'aria-label': `Purge ${plain(row.key)} …` },
        'Purge…',
      );
      fill.addEventListener('click', () => aim(row.key));
      return element(
        'li',
        {},
        badge(row.state),
        key(row),
        element(
          'span',
          { class: 'count' },
          element('b', {}, short.format(number(row.hits))),
          number(row.hits) === 1 ? ' read · ' : ' reads · ',
          element('b', {}, age(row.age_s)),
          ' old',
        ),
        fill,
      );
    }),
  );
  if (!rows?.length) list.append(element('li', { class: 'none' }, nothing));
}

function showInFlight() {
  const rows = latest.in_flight ?? [];
  const loads = rows.filter((row) => row.kind === 'load').length;
  say('flight-count', rows.length ? `${rows.length}, readers wait for ${loads}` : '');
  if (held(byId('in-flight'))) return;
  byId('in-flight').replaceChildren(
    ...rows
      .slice(0, 12)
      .map((row) =>
        element(
          'li',
          {},
          badge(row.kind),
          key(row),
          element('span', { class: 'count' }, 'for ', element('b', {}, milliseconds(Math.max(1, number(row.since_ms))))),
        ),
      ),
  );
  if (rows.length > 12) byId('in-flight').append(element('li', { class: 'none' }, `and ${rows.length - 12} more`));
  if (!rows.length)
    byId('in-flight').append(element('li', { class: 'none' }, 'Nothing: the origin is left in peace.'));
}

let due = false;

// At most one drawing per frame, and none while the page is not seen.
function show() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    showHead();
    showHeadline();
    showOutcomes();
    showRefreshes();
    showKeys('hottest', latest.hottest, 'Nothing has been asked for yet.');
    showKeys('stalest', latest.stalest, 'Nothing that was served is stale.');
    showInFlight();
    outcomesChart.paint();
    latencyChart.paint();
  });
}

// ---- Purge ----

const form = byId('purge');
const target = byId('target');
const token = byId('token');
const TARGETS = {
  url: { label: 'URL', example: 'http://example.org/a/page?of=it' },
  prefix: { label: 'Everything that begins with', example: 'http://example.org/assets/' },
  group: { label: 'Name of the group', example: 'products' },
};

function showTarget() {
  const { label, example } = TARGETS[form.elements.what.value];
  say('target-label', label);
  target.placeholder = example;
}

// Puts a key of the lists into the box; the method in front of it is no part of the URL.
function aim(text) {
  form.elements.what.value = 'url';
  showTarget();
  target.value = String(text).replace(/^[A-Z]+ /, '');
  answer('', '');
  form.scrollIntoView({ block: 'center' });
  byId('purge-send').focus();
}

function answer(mood, words, field) {
  byId('purge-answer').dataset.mood = mood;
  byId('purge-answer').textContent = words;
  for (const each of [target, token]) each.toggleAttribute('aria-invalid', false);
  if (!field) return;
  field.setAttribute('aria-invalid', 'true');
  field.focus();
}

function wrongTarget(what, value) {
  if (!value) return `Say what to purge: ${TARGETS[what].label.toLowerCase()} is empty.`;
  if (what !== 'group' && !/^https?:\/\/[^/\s]+/i.test(value)) {
    return `“${plain(value)}” is no whole address. ` +
      `Begin with http:// or https:// and the host, such as ${TARGETS.url.example}.`;
  }
  return null;
}

// What went wrong, in words, with what to do about it. The server's own words come first: it knows more.
function cure(status, error) {
  const told = error ? `${plain(error).replace(/\.?$/, '.')} ` : '';
  if (status === 401) return `${told}Give the purge token that this everfresh was started with.`;
  if (status === 403)
    return `${told}This token may not purge, or purging is switched off: set a purge token in the configuration.`;
  if (status === 404)
    return `${told || 'There is no purge here. '}The purge API may be switched off in the configuration.`;
  if (status === 429) return `${told}Too many purges at once: wait a little, or use a prefix or a group.`;
  if (status >= 500)
    return `${told}everfresh failed to do it (status ${status}); its log says why. Nothing may have been purged.`;
  return told || `Refused with status ${status}. Check the address and try again.`;
}

async function purge() {
  const what = form.elements.what.value;
  const value = target.value.trim();
  const wrong = wrongTarget(what, value);
  if (wrong) return answer('bad', wrong, target);
  answer('', 'Purging …');
  let response;
  try {
    response = await fetch('purge', {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        ...(token.value && { Authorization: `Bearer ${token.value}` }),
      },
      body: JSON.stringify({ [what]: value, mode: form.elements.mode.value }),
      signal: AbortSignal.timeout(30000),
    });
  } catch (failure) {
    return answer(
      'bad',
      failure.name === 'TimeoutError'
        ? 'No answer in 30 seconds. It may still be going on; look at the log of everfresh before you try again.'
        : failure instanceof TypeError && !isSendable(token.value)
          ? 'The token holds characters that cannot be sent. Copy it again, without what stands around it.'
          : 'everfresh does not answer at this address. See that it still runs, then try again.',
      isSendable(token.value) ? null : token,
    );
  }
  const told = await response.json().catch(() => null);
  if (!response.ok) {
    const field = { 400: target, 422: target, 401: token, 403: token }[response.status];
    return answer('bad', cure(response.status, told?.error), field);
  }
  const count = told?.purged;
  const asked = number(told?.revalidated);
  if (!Number.isFinite(count))
    return answer('bad', 'Done, it seems, but the answer could not be read. Is a proxy in between?');
  if (count === 0)
    return answer('', 'Nothing stored matched, so nothing was purged. Check the address, and its query.');
  return answer(
    'good',
    `${whole.format(count)} ${count === 1 ? 'entry' : 'entries'} ${
      {
        hard: 'removed',
        soft: 'made stale',
        revalidate: `made stale; the origin was asked about ${asked === count ? 'all' : whole.format(asked)}`,
      }[form.elements.mode.value]
    }.`,
  );
}

const isSendable = (text) => /^[\t\x20-\x7e\x80-\xff]*$/.test(text);

function preparePurge() {
  let busy = false;
  form.addEventListener('change', showTarget);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    byId('purge-send').setAttribute('aria-disabled', 'true');
    await purge();
    busy = false;
    byId('purge-send').removeAttribute('aria-disabled');
  });
  // A browser may forbid storage; then the token is simply typed again after a reload.
  try {
    token.value = sessionStorage.getItem('everfresh purge token') ?? '';
  } catch {
    /* nothing to bring back */
  }
  token.addEventListener('input', () => {
    try {
      sessionStorage.setItem('everfresh purge token', token.value);
    } catch {
      /* kept in the field only */
    }
  });
  showTarget();
}

// ---- The stream ----

let source = null;
let failures = 0;
let heardAt = Date.now();
let retryAt = null; // when the next attempt is due, while there is none under way

function hear(text) {
  let stats;
  try {
    stats = JSON.parse(text);
  } catch {
    return; // half a message; the next second brings a whole one
  }
  if (stats === null || typeof stats !== 'object') return;
  heardAt = Date.now();
  const before = samples.at(-1)?.time;
  byId('lost').hidden = true;
  byId('live').dataset.state = 'live';
  say('live', 'live');
  remember(stats);
  show();
  // Something was missed: all that was before the page, or the time without a stream.
  if (samples.length === 1 || failures > 0 || samples.at(-1).time - before > GAP) recall();
  failures = 0;
}

// The browser's own reconnecting gives up for good at the first 5xx, so the page does it itself.
function listen() {
  source?.close();
  retryAt = null;
  heardAt = Date.now(); // the new attempt gets its own time
  source = new EventSource('stats/stream');
  source.onmessage = (event) => hear(event.data);
  source.onerror = () => lose('The stream of numbers broke off.');
}

function lose(what) {
  source?.close();
  retryAt = Date.now() + 1000 * Math.min(10, 2 ** failures);
  failures += 1;
  byId('live').dataset.state = 'lost';
  say('live', 'lost');
  const since = latest
    ? ' The numbers below are the last that came.'
    : ' Is everfresh still running at this address?';
  say('lost-what', what + since);
  byId('lost').hidden = false;
  watch();
}

function watch() {
  if (retryAt !== null) {
    const left = Math.ceil((retryAt - Date.now()) / 1000);
    if (left <= 0) listen();
    // For the eyes only: a reader of the screen should not hear a countdown.
    byId('lost-next').setAttribute('aria-hidden', 'true');
    say('lost-next', left > 0 ? `Next attempt in ${left} s.` : 'Trying …');
  } else if (Date.now() - heardAt > SILENCE * 1000) {
    lose(`Nothing has been heard for ${SILENCE} seconds.`);
  }
}

async function start() {
  buildLegend();
  preparePurge();
  for (const radio of document.querySelectorAll('[name=measure]')) {
    radio.addEventListener('change', () => {
      measure = radio.value;
      latencyChart.paint();
      if (latest) showOutcomes();
    });
  }
  byId('lost-now').addEventListener('click', listen);
  window.addEventListener('online', listen);
  setInterval(watch, 1000);
  try {
    // Numbers at once; should this fail, the stream brings the same, or says what is wrong.
    const response = await fetch('stats', { signal: AbortSignal.timeout(5000) });
    if (response.ok) hear(await response.text());
  } catch {
    /* see above */
  }
  listen();
}

start();
