// The live page in a real browser.
//
//     npm ci && node page.test.mjs --mock                    against the mock beside this file
//     npm ci && node page.test.mjs http://127.0.0.1:9090/    against the admin address of a running everfresh
//
// The browser is /usr/bin/chromium, or what the variable CHROMIUM names.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { HOSTILE, TOKEN, startMock } from './mock.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const PATIENCE = 10_000; // milliseconds; the page gets new numbers each second

function stop(words) {
  console.error(words);
  process.exit(2);
}

const where = process.argv[2];
if (!where) stop('Say where the page is: node page.test.mjs --mock, or node page.test.mjs http://127.0.0.1:9090/');
if (!existsSync(CHROMIUM)) {
  stop(
    `No browser at ${CHROMIUM}. Install Chromium (Debian: apt-get install chromium), or name one: CHROMIUM=/path/to/it`,
  );
}
const { chromium } = await import('playwright-core').catch(() =>
  stop('playwright-core is missing: run npm ci in this folder.'),
);

const mock = where === '--mock' ? await startMock({ speed: 4 }) : null;
const home = mock?.url ?? new URL('./', where).href;
// Chromium refuses its sandbox to root, which is who runs tests in most containers.
const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
const browser = await chromium.launch({ executablePath: CHROMIUM, args });

async function until(what, check) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    if (await check()) return;
    if (Date.now() > end) assert.fail(`waited ${PATIENCE / 1000} s in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// A new page with everything that it did wrong. `expected` are console errors that the test provokes itself.
async function open({ before, expected, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !expected?.test(message.text()))
      wrong.push(message.text());
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:' && url.host !== new URL(home).host) wrong.push(`left the host: ${request.url()}`);
  });
  await before?.(page);
  await page.goto(home);
  const text = (selector) => page.locator(selector).first().textContent();
  return { page, text, wrong, close: () => context.close() };
}

const live = (page) => until('the page is live', () => page.locator('#live[data-state=live]').count());

// The page is given these numbers instead of the server's.
async function feed(page, change, past = () => []) {
  const stats = await (await fetch(new URL('stats', home))).json();
  change(stats);
  await page.route('**/stats', (route) => route.fulfill({ json: stats }));
  await page.route('**/stats/history', (route) => route.fulfill({ json: past(stats) }));
  await page.route('**/stats/stream', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: `data: ${JSON.stringify(stats)}\n\n` }),
  );
}

const tests = {
  async 'numbers move, charts are drawn'() {
    const { page, text, wrong, close } = await open();
    await live(page);
    assert.match(await text('#uptime'), /^up \d/);
    await until('an area is drawn', () => page.locator('#outcomes-chart path.area').count());
    await until('a line is drawn', () => page.locator('#latency-chart path.wait').count());
    assert.match(await text('#waited'), /%|–/);
    assert.match(await text('#bytes'), /B$/);
    assert.equal(await page.locator('#legend button').count(), 10);
    const drawn = () => page.locator('#outcomes-chart path.area').first().getAttribute('d');
    const first = await drawn();
    await until('the chart moves', async () => (await drawn()) !== first);
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'who comes late sees the minutes before'() {
    const { page, wrong, close } = await open({
      before: (page) =>
        feed(
          page,
          (stats) => Object.assign(stats, { uptime_s: 1000, requests: { hit: 5000 }, per_second: { hit: 7 } }),
          ({ uptime_s }) =>
            Array.from({ length: 299 }, (_, i) => ({
              uptime_s: uptime_s - 299 + i,
              requests: { hit: 4000 + i },
              per_second: { hit: i === 0 ? 41 : 5 },
            })),
        ),
    });
    const chart = page.locator('#outcomes-chart');
    await chart.focus();
    await until('the oldest second is told', async () => {
      await page.keyboard.press('Home');
      return /^4 min 59 s ago: hit 41 /.test(await chart.getAttribute('aria-valuetext'));
    });
    await page.keyboard.press('End');
    assert.match(await chart.getAttribute('aria-valuetext'), /^Now: hit 7 /);
    assert.match(await page.locator('#waited-of').textContent(), /0 of 1K in the last 4 min 59 s/);
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'a demo tells what two crowds of readers saw'() {
    const { page, text, wrong, close } = await open({
      before: (page) =>
        feed(page, (stats) => {
          const crowd = { requests: 2000, errors: 1, p50_ms: 0.5, p99_ms: 3, max_ms: 41 };
          stats.demo = { with: crowd, without: { ...crowd, errors: 200, p99_ms: 440, max_ms: 1200 } };
        }),
    });
    await until('the crowds are shown', () => page.locator('#crowds-rows tr').count());
    assert.match(await text('#crowds .without'), /440 ms.*1\.2 s.*10\.0 %.*2,000/);
    assert.match(await text('#crowds .with'), /0\.5 ms.*3.*ms.*41 ms.*0\.05 %/);
    assert.doesNotMatch(await text('#demo'), /object Object/);
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'outcomes are explained on focus and on hover, and can be left out'() {
    const { page, text, wrong, close } = await open();
    await live(page);
    const fallback = page.locator('#legend button', { hasText: 'fallback' });
    await fallback.focus();
    assert.match(await text('#explain'), /instead of an error/);
    const described = await fallback.getAttribute('aria-describedby');
    assert.match(await text(`#${described}`), /instead of an error/);
    await page.locator('#legend button', { hasText: 'coalesced' }).hover();
    assert.match(await text('#explain'), /another reader had/);
    await fallback.focus();
    await page.keyboard.press('Space');
    assert.equal(await fallback.getAttribute('aria-pressed'), 'false');
    await page.locator('#draw-all').click();
    assert.equal(await fallback.getAttribute('aria-pressed'), 'true');
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'the keyboard reads the charts'() {
    const { page, wrong, close } = await open();
    await live(page);
    const chart = page.locator('#outcomes-chart');
    await until(
      'the chart has something to say',
      async () => !/No numbers/.test(await chart.getAttribute('aria-valuetext')),
    );
    await chart.focus();
    await page.keyboard.press('ArrowLeft');
    assert.match(await chart.getAttribute('aria-valuetext'), /^1 s ago/);
    assert.ok(await page.locator('#outcomes-chart .tip').isVisible());
    await page.keyboard.press('Escape');
    assert.ok(!(await page.locator('#outcomes-chart .tip').isVisible()));
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'a hostile key is words and nothing else'() {
    const key = `GET http://shop.example/${HOSTILE}\u202egpj.exe`;
    const { page, text, wrong, close } = await open({
      before: (page) =>
        feed(page, (stats) => {
          stats.hottest = [{ key, hits: 1, age_s: 1, state: HOSTILE }];
          stats.stalest = [{ key, hits: 1, age_s: 1, state: 'stale' }];
          stats.in_flight = [{ key, kind: HOSTILE, since_ms: 1 }];
          Object.assign(stats, { name: HOSTILE, version: HOSTILE, origin: [HOSTILE], demo: { words: HOSTILE } });
        }),
    });
    await until('the key is shown', () => page.locator('#hottest .key').count());
    for (const list of ['#hottest', '#stalest', '#in-flight']) {
      assert.equal(await text(`${list} .key`), `GET http://shop.example/${HOSTILE}\\u202egpj.exe`);
    }
    assert.equal(await text('#name'), HOSTILE);
    await page.locator('#hottest .fill').first().click();
    assert.ok((await page.locator('#target').inputValue()).includes(HOSTILE));
    assert.equal(await page.locator('img').count(), 0);
    assert.equal(await page.evaluate(() => window.harmed), undefined);
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'the purge box sends what it should, and keeps the token for the tab only'() {
    const sent = [];
    const { page, text, wrong, close } = await open({
      before: (page) =>
        page.route('**/purge', (route) => {
          const request = route.request();
          sent.push([request.method(), request.headers().authorization, request.postDataJSON()]);
          return route.fulfill({ json: { purged: 2, revalidated: 2 } });
        }),
    });
    await live(page);
    await page.locator('#purge-send').click();
    assert.match(await text('#purge-answer'), /empty/);
    await page.locator('#target').fill('/no/host');
    await page.keyboard.press('Enter');
    assert.match(await text('#purge-answer'), /Begin with http/);
    assert.equal(await page.locator('#target').getAttribute('aria-invalid'), 'true');
    assert.deepEqual(sent, []);

    await page.locator('#token').fill('a token');
    for (const [what, value, mode] of [
      ['url', 'http://a.example/x?y=1', 'soft'],
      ['prefix', 'http://a.example/x/', 'hard'],
      ['group', 'lamps', 'revalidate'],
    ]) {
      await page.locator(`#purge [value=${what}]`).check({ force: true });
      await page.locator('#target').fill(value);
      await page.locator(`#purge [value=${mode}]`).check();
      await page.locator('#purge-send').click();
      await until('the purge was answered', async () => /^2 entries/.test(await text('#purge-answer')));
      assert.match(await text('#purge-answer'), { soft: /stale/, hard: /removed/, revalidate: /asked about all/ }[mode]);
      assert.deepEqual(sent.pop(), ['POST', 'Bearer a token', { [what]: value, mode }]);
    }
    await page.reload();
    assert.equal(await page.locator('#token').inputValue(), 'a token');
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage)), '{}');
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'a refused purge says what to do'() {
    const { page, text, wrong, close } = await open({ expected: /Failed to load resource/ });
    await live(page);
    const send = async (token, expected) => {
      await page.locator('#target').fill('http://nobody.example/');
      await page.locator('#token').fill(token);
      await page.locator('#purge-send').click();
      await until(`the answer is ${expected}`, async () => expected.test(await text('#purge-answer')));
    };
    await send('wrong', /token/i); // the server's own answer
    assert.equal(await page.locator('#token').getAttribute('aria-invalid'), 'true');
    if (mock) {
      await send(TOKEN, /^1 entry made stale/);
      assert.equal(await page.locator('#token').getAttribute('aria-invalid'), null);
    }
    await page.route('**/purge', (route) =>
      route.fulfill({ status: 400, json: { error: `no such thing as ${HOSTILE}` } }),
    );
    await send('x', /no such thing as <img/);
    await page.unroute('**/purge');
    await page.route('**/purge', (route) => route.fulfill({ status: 500, body: 'not JSON' }));
    await send('x', /its log says why/);
    await page.unroute('**/purge');
    await page.route('**/purge', (route) => route.abort());
    await send('x', /See that it still runs/);
    await page.locator('#token').fill('\u2713');
    await page.locator('#purge-send').click();
    await until('the token is blamed', async () => /cannot be sent/.test(await text('#purge-answer')));
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'a lost stream is told, and found again without help'() {
    const { page, text, wrong, close } = await open({
      expected: /Failed to load resource|ERR_/,
      before: (page) => page.route('**/stats/stream', (route) => route.abort()),
    });
    await until('the banner is there', () => page.locator('#lost').isVisible());
    assert.match(await text('#lost-what'), /broke off/);
    await page.unroute('**/stats/stream');
    await until('the banner is gone', async () => !(await page.locator('#lost').isVisible()));
    await live(page);
    if (mock) {
      mock.cut();
      await until('the banner is there', () => page.locator('#lost').isVisible());
      assert.match(await text('#lost-what'), /last that came/);
      mock.down = false;
      await page.locator('#lost-now').click();
      await until('the banner is gone', async () => !(await page.locator('#lost').isVisible()));
    }
    assert.deepEqual(wrong, []);
    await close();
  },

  async 'dark and light follow the system, less motion too'() {
    const ground = {};
    for (const colorScheme of ['light', 'dark']) {
      const { page, wrong, close } = await open({ colorScheme, reducedMotion: 'reduce' });
      await live(page);
      ground[colorScheme] = await page.evaluate(
        () => getComputedStyle(document.body).backgroundColor.match(/\d+/g)[0],
      );
      assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
      assert.deepEqual(wrong, []);
      await close();
    }
    assert.ok(Number(ground.light) > 200 && Number(ground.dark) < 60, JSON.stringify(ground));
  },

  async 'a phone needs no sideways scrolling, and numbers that are missing do no harm'() {
    const { page, text, wrong, close } = await open({
      viewport: { width: 390, height: 844 },
      before: (page) =>
        feed(page, (stats) => {
          for (const name of Object.keys(stats))
            if (!['name', 'uptime_s', 'hottest'].includes(name)) stats[name] = null;
          stats.hottest = [
            { key: `GET http://a.example/${'long'.repeat(200)}`, hits: null, age_s: 1, state: 'fresh' },
          ];
        }),
    });
    await until('the key is shown', () => page.locator('#hottest .key').count());
    assert.equal(await text('#waited'), '–');
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    assert.deepEqual(wrong, []);
    await close();
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
await browser.close();
mock?.close();
console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
