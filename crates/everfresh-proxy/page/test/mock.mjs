// A stand-in for the admin side of everfresh, so that the page can be looked at and tested without the proxy.
// It plays a lively day over and over: a quiet start, a stampede, an outage that fallbacks bridge, a recovery.
//
//     node mock.mjs [PORT] [SECONDS PER SECOND]      the token for purges is "secret"
//
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

export const HOSTILE = '<img src=x onerror="window.harmed=true">';
export const TOKEN = 'secret';

const NAMES = [
  'hit',
  'stale',
  'revalidated',
  'replaced',
  'miss',
  'coalesced',
  'fallback',
  'uncacheable',
  'bypass',
  'error',
];
const FILES = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
};
const HOST = 'http://shop.example';
const KEYS = [
  '/',
  '/products?page=1',
  '/assets/app.4f2a91.js',
  '/api/prices',
  '/products/1871/oak-table',
  '/assets/logo.svg',
  '/api/stock?warehouse=north&currency=EUR&include=reservations,incoming,transfers',
  '/search?q=lamp',
];

// What one second of the day brings, by its place in a round of 300 seconds.
function weather(t) {
  const noise = 0.9 + Math.random() * 0.2;
  const wave = 620 + 190 * Math.sin(t / 41) + 60 * Math.sin(t / 9);
  const calm = {
    hit: wave * noise,
    stale: 14 + 9 * Math.sin(t / 6),
    revalidated: 1,
    replaced: 0.6,
    miss: 3 + Math.random() * 3,
    coalesced: 1.5 * Math.random(),
    fallback: 0,
    uncacheable: 9,
    bypass: 13,
    error: 0,
  };
  const words = { phase: 'a calm day', origin: 120 + 60 * Math.random(), wait: 0.16, backing: 0 };
  if (t >= 62 && t < 78) {
    const force = 1 - (t - 62) / 16;
    Object.assign(calm, { coalesced: 520 * force, miss: 24 * force + 3, hit: wave * 1.25 });
    Object.assign(words, {
      phase: 'a stampede on cold keys',
      origin: 480 + 200 * Math.random(),
      wait: 430 * force + 1,
    });
  } else if (t >= 130 && t < 215) {
    const depth = Math.min(1, (t - 130) / 25);
    Object.assign(calm, {
      hit: wave * (1 - 0.75 * depth),
      fallback: wave * 0.68 * depth * noise,
      stale: 40 * (1 - depth) + 6,
      error: 2.4 * depth,
      miss: 0,
      revalidated: 0,
      replaced: 0,
      uncacheable: 0,
    });
    Object.assign(words, {
      phase: 'the origin is down',
      origin: 2000,
      wait: 0.22 + Math.random() * 0.1,
      backing: 31 * depth,
    });
  } else if (t >= 215 && t < 232) {
    const rest = 1 - (t - 215) / 17;
    Object.assign(calm, { stale: 240 * rest + 14, replaced: 12 * rest, fallback: 30 * rest });
    Object.assign(words, {
      phase: 'the origin is back',
      origin: 700 * rest + 150,
      wait: 3 * rest + 0.2,
      backing: 12 * rest,
    });
  }
  return { calm, words };
}

class Day {
  constructor() {
    this.uptime = 3971.5;
    this.requests = Object.fromEntries(NAMES.map((name) => [name, name === 'hit' ? 2_400_000 : 900]));
    this.origin = { requests: 41_200, errors: 12 };
    this.refreshes = {
      started: 30_120,
      running: 0,
      renewed: 21_004,
      replaced: 9_090,
      failed: 14,
      skipped: 3,
      backing_off: 0,
    };
    this.hits = KEYS.map((_, i) => Math.round(420_000 / (i + 1)));
    this.past = [];
    for (let i = 0; i < 240; i += 1) this.second();
  }

  second() {
    this.uptime += 1;
    const { calm, words } = weather(this.uptime % 300);
    this.now = words;
    this.rates = Object.fromEntries(NAMES.map((name) => [name, Math.round(Math.max(0, calm[name]))]));
    for (const name of NAMES) this.requests[name] += this.rates[name];
    const down = words.origin === 2000;
    const refreshed = down ? 0 : Math.round(this.rates.stale / 3);
    this.refreshes.started += refreshed + (down ? 3 : 0);
    this.refreshes.renewed += Math.round(refreshed * 0.7);
    this.refreshes.replaced += refreshed - Math.round(refreshed * 0.7);
    this.refreshes.failed += down ? 3 : 0;
    this.refreshes.running = down ? 3 : Math.min(8, refreshed);
    this.refreshes.backing_off = Math.round(words.backing);
    const { miss, revalidated, replaced, uncacheable, bypass } = this.rates;
    this.origin.requests += miss + revalidated + replaced + uncacheable + bypass + refreshed + (down ? 3 : 0);
    this.origin.errors += down ? 3 + this.rates.error : 0;
    this.hits = this.hits.map((hits, i) => hits + Math.round(this.rates.hit / (i + 3)));
    const { uptime_s, requests, per_second, reader_wait_ms, origin_ms, origin_requests } = this.stats();
    this.past.push({ uptime_s, requests: { ...requests }, per_second, reader_wait_ms, origin_ms, origin_requests });
    if (this.past.length > 300) this.past.shift();
  }

  stats() {
    const { origin, wait } = this.now;
    const down = origin === 2000;
    const row = (path, i, age) => ({
      key: i === 5 ? `GET ${HOST}/${HOSTILE}` : `GET ${HOST}${path}`,
      hits: this.hits[i],
      age_s: age,
      state: down && age > 60 ? 'fallback' : age > 60 ? 'stale' : 'fresh',
    });
    return {
      name: 'everfresh',
      version: '0.1.0',
      uptime_s: this.uptime,
      origin: ['http://127.0.0.1:3000'],
      requests: this.requests,
      per_second: this.rates,
      reader_wait_ms: { p50: 0.04, p99: wait, max: Math.max(origin, wait) * 1.1 },
      origin_ms: { p50: origin * 0.4, p99: origin, max: origin * 1.3 },
      origin_requests: this.origin.requests,
      origin_errors: this.origin.errors,
      refreshes: this.refreshes,
      entries: 18_442 + Math.round(this.uptime % 97),
      bytes: 201_000_000 + (this.uptime % 300) * 90_000,
      capacity_bytes: 268_435_456,
      waiters: Math.round(this.rates.coalesced / 2),
      connections: 214 + Math.round(this.uptime % 13),
      hottest: KEYS.map((path, i) => row(path, i, 4 + ((this.uptime + i * 17) % (down ? 160 : 70)))),
      stalest: KEYS.map((path, i) => row(path, i, 3700 - i * 311 + (this.uptime % 300)))
        .reverse()
        .slice(0, 6)
        .sort((a, b) => b.age_s - a.age_s),
      in_flight: [
        { key: `GET ${HOST}${KEYS[6]}`, kind: 'refresh', since_ms: origin * 0.7 },
        { key: `GET ${HOST}${KEYS[3]}`, kind: 'refresh', since_ms: origin * 0.5 },
        ...(this.rates.miss > 1 ? [{ key: `GET ${HOST}${KEYS[7]}`, kind: 'load', since_ms: origin * 0.2 }] : []),
      ],
      demo: {
        phase: this.now.phase,
        with: { requests: 9000, errors: 1, p50_ms: 0.2, p99_ms: 3.1, max_ms: 41 },
        without: { requests: 800, errors: 80, p50_ms: 310, p99_ms: 440, max_ms: 512 },
      },
    };
  }
}

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return text;
}

// The rules of the purge API as the page has to know them.
function purge(request, text) {
  const authorization = request.headers.authorization;
  if (authorization !== `Bearer ${TOKEN}`) {
    return [401, { error: authorization ? 'the token is not the right one' : 'a purge needs a token' }];
  }
  const asked = JSON.parse(text);
  const what = ['url', 'prefix', 'group'].filter((name) => typeof asked[name] === 'string');
  if (what.length !== 1) return [400, { error: 'say one of url, prefix and group' }];
  if (!['hard', 'soft', 'revalidate'].includes(asked.mode))
    return [400, { error: 'mode is hard, soft or revalidate' }];
  const purged = { url: 1, prefix: 128, group: asked.group === 'nobody' ? 0 : 37 }[what[0]];
  return [200, asked.mode === 'revalidate' ? { purged, revalidated: purged } : { purged }];
}

export async function startMock({ port = 0, speed = 1 } = {}) {
  const day = new Day();
  const streams = new Set();
  const mock = { purges: [], down: false };

  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://mock');
    const json = (status, value) =>
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    if (FILES[pathname]) {
      const [file, type] = FILES[pathname];
      const path = fileURLToPath(new URL(`../${file}`, import.meta.url));
      return response
        .writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' })
        .end(await readFile(path));
    }
    if (mock.down) return json(503, { error: 'down' });
    if (pathname === '/stats') return json(200, day.stats());
    if (pathname === '/stats/history') return json(200, day.past);
    if (pathname === '/stats/stream') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
      response.write(`data: ${JSON.stringify(day.stats())}\n\n`);
      streams.add(response);
      return response.on('close', () => streams.delete(response));
    }
    if (pathname === '/purge' && request.method === 'POST') {
      const text = await body(request);
      mock.purges.push({ authorization: request.headers.authorization, text });
      return json(...purge(request, text));
    }
    return json(404, { error: 'no such page' });
  });

  const beat = setInterval(() => {
    day.second();
    for (const stream of streams) stream.write(`data: ${JSON.stringify(day.stats())}\n\n`);
  }, 1000 / speed);

  await new Promise((done, failed) => server.once('error', failed).listen(port, '127.0.0.1', done));
  mock.url = `http://127.0.0.1:${server.address().port}/`;
  // The stream breaks off, and everything but the page itself is refused until `down` is false again.
  mock.cut = () => {
    mock.down = true;
    for (const stream of streams) stream.destroy();
  };
  mock.close = () => {
    clearInterval(beat);
    server.closeAllConnections();
    server.close();
  };
  return mock;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await startMock({ port: Number(process.argv[2] ?? 8081), speed: Number(process.argv[3] ?? 1) });
  console.log(`the mock plays at ${mock.url}`);
}
