// What the published package does not ask yet, or asks the other way round than the RFCs (and than its own authors do
// since), in the package's format: RFC 9111 §5.1 (Age), §4.2.4 (no stale responses), §3.3 (parts), RFC 5861 and RFC 9213.

const once = (fields, more = {}) => ({ response_headers: fields, setup: true, ...more })
const cached = { expected_type: 'cached' }
const asked = { expected_type: 'not_cached' }

// The origin answers with these fields; three seconds later the same is wanted again.
const then = (id, name, kind, fields, second) => ({
  id, name, kind, requests: [once(fields, { pause_after: true }), second]
})

const fresh = (...ages) => [['Date', 0], ['Cache-Control', 'max-age=3600'], ...ages.map((age) => ['Age', age, false])]
const age = [
  ['nonnumeric', 'ignores an `Age` that is no number', ['abc'], cached],
  ['negative', 'ignores a negative `Age`', ['-7200'], cached],
  ['float', 'ignores an `Age` with a fraction', ['7200.0'], cached],
  ['first-member', 'uses the first member of `Age: 0, 7200`', ['0, 7200'], cached],
  ['first-member-old', 'uses the first member of `Age: 7200, 0`', ['7200, 0'], asked],
  ['first-line', 'uses the first of two lines of `Age`, which is young', ['0', '7200'], cached],
  ['first-line-old', 'uses the first of two lines of `Age`, which is old', ['7200', '0'], asked],
  ['twice-zero', 'reads `Age: 0, 0` as 0', ['0, 0'], cached],
  ['twice-zero-line', 'reads two lines of `Age: 0` as 0', ['0', '0'], cached],
  ['twice', 'reads `Age: 1800, 1800` as 1800', ['1800, 1800'], cached],
  ['31-bits', 'reads an `Age` of 2147483647', ['2147483647'], asked],
  ['more-than-31-bits', 'reads an `Age` of 2147483649', ['2147483649'], asked],
  ['more-than-64-bits', 'reads an `Age` of 99999999999999999999', ['99999999999999999999'], asked]
].map(([id, name, ages, second]) => then(`beyond-age-${id}`, `A cache ${name}`, 'required', fresh(...ages), second))

// The origin hangs up. An answer of the cache's own carries nothing that the origin counted.
const notStale = ['must-revalidate', 'proxy-revalidate', 'no-cache', 's-maxage=2'].map((directive) => then(
  `beyond-stale-${directive}`, `A cache serves nothing stale under \`${directive}\``, 'required',
  [['Cache-Control', `max-age=2, ${directive}`]],
  {
    disconnect: true,
    check_body: false,
    expected_status: 502,
    expected_response_headers_missing: ['server-request-count']
  }
))
const windows = [
  then('beyond-swr', 'A cache serves a stale response within its stale-while-revalidate', 'optimal',
    [['Cache-Control', 'max-age=1, stale-while-revalidate=3600']], cached),
  then('beyond-swr-over', 'A cache serves nothing when stale-while-revalidate is over', 'required',
    [['Cache-Control', 'max-age=1, stale-while-revalidate=1']], asked),
  then('beyond-sie-503', 'A cache serves a stale response for a 503 within its stale-if-error', 'optimal',
    [['Cache-Control', 'max-age=1, stale-if-error=3600']],
    { ...cached, response_status: [503, 'Service Unavailable'], expected_status: 200 }),
  then('beyond-sie-close', 'A cache serves a stale response for a closed connection within stale-if-error', 'optimal',
    [['Cache-Control', 'max-age=1, stale-if-error=3600']], { ...cached, disconnect: true }),
  then('beyond-sie-over', 'A cache passes a 503 on when stale-if-error is over', 'required',
    [['Cache-Control', 'max-age=1, stale-if-error=1']],
    { ...asked, response_status: [503, 'Service Unavailable'], check_body: false }),
  then('beyond-sie-404', 'A cache passes a 404 on: it is no error of RFC 5861 §4', 'required',
    [['Cache-Control', 'max-age=1, stale-if-error=3600']],
    { ...asked, response_status: [404, 'Not Found'], check_body: false })
]

const CDN = 'CDN-Cache-Control'
const past = [['Expires', -10000], ['Date', 0]]
const future = [['Expires', 10000], ['Date', 0]]
const targeted = [
  ['max-age', 'optimal', 'heeds its `max-age`', ['max-age=3600'], [], cached],
  ['large', 'optimal', 'heeds a `max-age` beyond 32 bits', ['max-age=99999999999'], [], cached],
  ['zero', 'required', 'heeds its `max-age=0`', ['max-age=0'], [], asked],
  ['zero-expires', 'required', 'heeds its `max-age=0`, not `Expires`', ['max-age=0'], future, asked],
  ['age', 'required', 'counts `Age`', ['max-age=3600'], [['Date', 0], ['Age', '7200', false]], asked],
  ['unknown', 'optimal', 'passes over directives that it does not know', ['foobar, max-age=3600'], [], cached],
  ['lines', 'optimal', 'reads several lines as one', ['foobar', 'max-age=3600'], [], cached],
  ['past-expires', 'optimal', 'heeds its `max-age`, not `Expires`', ['max-age=3600'], past, cached],
  ['over-short', 'optimal', 'has precedence over a shorter life', ['max-age=3600'], [['Cache-Control', 'max-age=1']],
    cached],
  ['over-long', 'required', 'has precedence over a longer life', ['max-age=1'], [['Cache-Control', 'max-age=3600']],
    asked],
  ['over-no-store', 'optimal', 'has precedence over `no-store`', ['max-age=3600'], [['Cache-Control', 'no-store']],
    cached],
  ['private', 'required', 'forbids with `private`', ['private'], [['Cache-Control', 'max-age=3600'], ...future], asked],
  ['no-cache', 'required', 'forbids with `no-cache`', ['no-cache'], [['Cache-Control', 'max-age=3600'], ...future],
    asked],
  ['no-store', 'required', 'forbids with `no-store`', ['no-store'], [['Cache-Control', 'max-age=3600'], ...future],
    asked],
  ['malformed', 'required', 'is passed over if it is no dictionary', ['max-age=3600, &&&'],
    [['Cache-Control', 'no-store']], asked],
  ['text', 'required', 'has no life in quotes', ['max-age="3600"'], [['Cache-Control', 'no-store']], asked],
  ['empty', 'required', 'is passed over if it is empty', [''], [['Cache-Control', 'no-store']], asked],
  ['swr', 'optimal', 'has a stale-while-revalidate of its own', ['max-age=1, stale-while-revalidate=3600'],
    [['Cache-Control', 'max-age=1, must-revalidate']], cached]
].map(([id, kind, name, values, others, second]) => then(
  `beyond-cdn-${id}`, `\`${CDN}\` ${name}`, kind,
  [...values.map((value) => [CDN, value, false]), ...others], second
))

const DIGITS = '0123456789'
const part = (first, last) => ({
  response_status: [206, 'Partial Content'],
  response_headers: [
    ['Cache-Control', 'max-age=3600'],
    ['ETag', '"digits"'],
    ['Content-Range', `bytes ${first}-${last}/10`, false]
  ],
  response_body: DIGITS.slice(first, last + 1)
})
const parts = [['-5', '56789'], ['6-8', '678'], ['6-', '6789'], ['-1', '9']].map(([range, text]) => ({
  id: `beyond-part-${range}`,
  name: `A cache serves the range ${range} from a stored part that holds it`,
  kind: 'optimal',
  requests: [
    { ...part(5, 9), request_headers: [['Range', 'bytes=-5']], setup: true },
    { ...cached, request_headers: [['Range', `bytes=${range}`]], expected_status: 206, expected_response_text: text }
  ]
})).concat({
  id: 'beyond-part-complete',
  name: 'A cache completes a stored part, and serves the whole of it',
  kind: 'optimal',
  requests: [
    { ...part(0, 4), request_headers: [['Range', 'bytes=0-4']], setup: true },
    {
      ...part(5, 9),
      expected_request_headers: [['range', 'bytes=5-'], ['if-range', '"digits"']],
      expected_status: 200,
      expected_response_text: DIGITS
    },
    { ...cached, expected_response_text: DIGITS }
  ]
})

export default [
  { id: 'beyond-age', name: 'RFC 9111 §5.1', tests: age },
  { id: 'beyond-stale', name: 'RFC 9111 §4.2.4, RFC 5861', tests: [...notStale, ...windows] },
  { id: 'beyond-cdn', name: 'RFC 9213', tests: targeted },
  { id: 'beyond-part', name: 'RFC 9111 §3.3, §3.4', tests: parts }
]
