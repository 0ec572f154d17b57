// Runs the public suite http-cache-tests, and beyond.mjs, against `everfresh serve`, prints what passes per suite and
// compares it with expected.json.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import beyond from './beyond.mjs'

const VERSION = '0.4.5'
const here = dirname(fileURLToPath(import.meta.url))
const USAGE = `  --id TEST        one test, told in full
  --write          what came out becomes expected.json
  --suite FOLDER   a copy of the package http-cache-tests that is there already, instead of npm's
  --binary PATH    another binary of everfresh`

// What is not understood is refused: the whole suite takes minutes, and --write changes what is expected.
const words = {}
for (let at = 2; at < process.argv.length; at++) {
  const word = process.argv[at]
  if (word === '--help' || word === '-h') {
    console.log(USAGE)
    process.exit(0)
  }
  if (word === '--write') {
    words[word] = true
  } else if (['--id', '--suite', '--binary'].includes(word)) {
    words[word] = process.argv[++at] ?? fail(`${word} needs a value; there are:\n\n${USAGE}`)
  } else {
    fail(`there is no ${word}; there are:\n\n${USAGE}`)
  }
}
if (words['--id'] && words['--write']) fail('--write is about all tests; leave --id out')
const given = (name) => words[name]
const binary = resolve(given('--binary') ?? join(here, '..', 'target', 'release', 'everfresh'))
if (!existsSync(binary)) fail(`there is no ${binary}: build it with cargo build --release -p everfresh-proxy`)

function fail (why) {
  console.error(why)
  process.exit(2)
}

const scratch = mkdtempSync(join(tmpdir(), 'everfresh-conformance-'))
const children = []
const end = () => {
  for (const child of children) child.kill()
  rmSync(scratch, { recursive: true, force: true })
}
process.on('exit', end)

let suite = given('--suite') && resolve(given('--suite'))
if (suite === undefined) {
  const install = ['install', '--silent', '--no-audit', '--no-fund', '--prefix', scratch, `http-cache-tests@${VERSION}`]
  try {
    execFileSync('npm', install, { stdio: 'inherit' })
  } catch {
    fail(`npm could not install http-cache-tests ${VERSION}: is its registry reachable? A copy that is there already ` +
      'is taken with --suite FOLDER')
  }
  suite = join(scratch, 'node_modules', 'http-cache-tests')
}
const load = (path) => import(pathToFileURL(join(suite, path)).href)

const freePort = () => new Promise((resolve, reject) => {
  const server = createServer()
  server.on('error', reject)
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})

// Starts a program and waits until it says the word.
const begin = (command, args, options, word) => new Promise((resolve, reject) => {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let said = ''
  const hear = (data) => {
    said += data
    if (said.includes(word)) resolve(said)
  }
  child.stdout.on('data', hear)
  child.stderr.on('data', hear)
  child.on('exit', (code) => reject(new Error(`${command} ended with ${code}: ${said}`)))
})

const [originPort, proxyPort] = [await freePort(), await freePort()]
const origin = `http://127.0.0.1:${originPort}`
const env = {
  ...process.env,
  npm_config_protocol: 'http',
  npm_config_port: String(originPort),
  npm_config_pidfile: join(scratch, 'pid')
}
await begin(process.execPath, ['server/server.mjs'], { cwd: suite, env }, 'Listening')
const config = join(scratch, 'everfresh.toml')
writeFileSync(config, `listen = "127.0.0.1:${proxyPort}"\n[log]\naccess = false\n[[origin]]\nurl = "${origin}"\n`)
await begin(binary, ['serve', '--config', config, '--no-admin'], {}, 'serving on')

process.chdir(suite)
const { runTests, getResults } = await load('client/runner.mjs')
const published = (await load('tests/index.mjs')).default
const tests = [...published, ...beyond]
const { default: fetch } = await load('../node-fetch/lib/index.mjs')
const only = given('--id')
const run = only === undefined
  ? tests
  : tests.map((one) => ({ ...one, tests: one.tests.filter((test) => test.id === only) }))
    .filter((one) => one.tests.length > 0)
if (run.length === 0) fail(`there is no test ${only}; those that do not pass are named in expected.json, all in the suite`)
const tell = console.log
if (only === undefined) console.log = () => {}
const base = `http://127.0.0.1:${proxyPort}`
await runTests(run, fetch, false, base)
console.log = tell
const results = getResults()

// A test whose own setup or dependency did not work says nothing; it is told apart, and is no pass.
const all = new Map(tests.flatMap((one) => one.tests).map((test) => [test.id, test]))
const outcome = (test) => {
  const needed = (test.depends_on ?? []).map((id) => all.get(id)).filter((it) => it !== undefined)
  if (needed.some((it) => outcome(it) !== 'pass')) return 'dependency'
  const result = results[test.id]
  if (result === undefined) return 'not run'
  if (result === true) return 'pass'
  return result[0] === 'Setup' ? 'setup' : 'fail'
}

const kinds = ['required', 'optimal', 'check']
const now = {}
const none = () => Object.fromEntries(kinds.map((kind) => [kind, [0, 0]]))
const totals = { published: none(), beyond: none() }
const row = (name, counts) =>
  console.log(name.padEnd(28) + kinds.map((kind) => counts[kind].join('/').padStart(12)).join(''))
console.log('suite'.padEnd(28) + kinds.map((kind) => kind.padStart(12)).join(''))
for (const one of run) {
  const counts = none()
  const total = beyond.some((it) => it.id === one.id) ? totals.beyond : totals.published
  for (const test of one.tests.filter((it) => it.browser_only !== true)) {
    const kind = test.kind ?? 'required'
    const became = outcome(test)
    for (const count of [counts[kind], total[kind]]) {
      count[0] += became === 'pass' ? 1 : 0
      count[1] += 1
    }
    if (became !== 'pass') now[test.id] = { kind, became, why: String(results[test.id]?.[1] ?? '') }
  }
  row(one.id, counts)
}
row('the package', totals.published)
row('beyond it', totals.beyond)

if (only !== undefined) {
  tell(results[only])
  process.exit(results[only] === true ? 0 : 1)
}
const failing = Object.entries(now).filter(([, it]) => it.kind !== 'check')
console.log('\nnot passed:')
for (const [id, { kind, became, why }] of failing) console.log(`  ${kind} ${id}: ${became} ${why}`)

const path = join(here, 'expected.json')
const notPassed = Object.fromEntries(Object.entries(now).map(([id, it]) => [id, it.kind]))
const told = { suite: VERSION, totals: totals.published, beyond: totals.beyond, notPassed }
if (given('--write')) {
  writeFileSync(path, JSON.stringify(told, null, 2) + '\n')
  process.exit(0)
}
const expected = JSON.parse(readFileSync(path, 'utf8'))
// The suite waits three seconds for two to pass, which can go wrong on a busy machine: what is new is asked again,
// alone.
const passesAlone = (id) => {
  try {
    execFileSync(process.execPath, [fileURLToPath(import.meta.url), '--binary', binary, '--suite', suite, '--id', id])
    return true
  } catch {
    return false
  }
}
const worse = failing.filter(([id]) => expected.notPassed[id] === undefined && !passesAlone(id))
const better = Object.keys(expected.notPassed).filter((id) => now[id] === undefined)
if (better.length > 0) console.log(`\nbetter than expected.json says (--write): ${better.join(', ')}`)
if (worse.length > 0) {
  console.error(`\nworse than expected.json says: ${worse.map(([id]) => id).join(', ')}`)
  process.exit(1)
}
process.exit(0)
