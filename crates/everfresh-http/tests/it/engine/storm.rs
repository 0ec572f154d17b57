//! Many clients at once, who walk away at any moment, before an origin that fails, hangs and breaks off at any moment, and purges
//! meanwhile: who stays gets what is theirs, whole, and from after the last purge; and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::task::JoinHandle;

use super::kit::{Origin, Said, TestBody, World, settle, shared, text, whole};
use crate::world::cases;

const CONTROLS: [&str; 6] = [
    "max-age=0, stale-while-revalidate=10, stale-if-error=10",
    "max-age=1",
    "max-age=1, stale-while-revalidate=60",
    "no-cache",
    "no-store",
    "s-maxage=2, max-age=0",
];
const LANGUAGES: [&str; 3] = ["de", "en", "fr"];

/// What is behind a path.
#[derive(Clone, Copy)]
struct Page {
    number: usize,
    varies: bool,
    private: bool,
    tagged: bool,
}

impl Page {
    const ALL: usize = 12;

    fn of(number: usize) -> Page {
        Page { number, varies: number % 3 == 1, private: number % 4 == 3, tagged: number % 5 < 2 }
    }

    fn path(self) -> String {
        format!("/{}", self.number)
    }
}

/// Lets others run so often.
async fn turns(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("-", |value| value.to_str().expect("text"))
}

async fn answer(hangs: bool, version: usize, asked: request::Parts) -> Said {
    let page = Page::of(asked.uri.path()[1..].parse().expect("a number"));
    let language = if page.varies { field(&asked.headers, "accept-language") } else { "*" };
    let whose = if page.private { field(&asked.headers, "cookie") } else { "*" };
    let fate = fastrand::u8(..20);
    match fate {
        0 => return Err("refused".to_owned()),
        1 => return Ok(text(503, &[], "down")),
        2 if hangs => std::future::pending().await,
        _ => turns(fastrand::u32(..12)).await,
    }
    let tag = format!("\"{}.{language}.{}\"", page.number, version / 40);
    let body = format!("{}|{language}|{whose}|{version}|{}.", page.number, "x".repeat(fastrand::usize(..3000)));
    let length = body.len().to_string();
    let mut with = vec![("cache-control", CONTROLS[fastrand::usize(..CONTROLS.len())])];
    if page.private {
        with[0].1 = "private, max-age=60";
    }
    with.extend(page.varies.then_some(("vary", "accept-language")));
    with.extend(page.tagged.then_some(("etag", &*tag)));
    if page.tagged && field(&asked.headers, "if-none-match").split(", ").any(|known| known == tag) {
        return Ok(text(304, &with, ""));
    }
    with.extend(fastrand::bool().then_some(("content-length", &*length)));
    Ok(whole(200, &with, in_pieces(body.into(), fate == 3)))
}

/// A body that comes by and by, and may break off.
fn in_pieces(body: Bytes, breaks: bool) -> TestBody {
    let end = if breaks { fastrand::usize(..body.len()) } else { body.len() };
    let pieces = stream::unfold(Some(0), move |sent| {
        let body = body.clone();
        async move {
            let sent = sent?;
            turns(fastrand::u32(..3)).await;
            if sent == end {
                return breaks.then(|| (Err("broke off".into()), None));
            }
            let next = end.min(sent + fastrand::usize(1..900));
            Some((Ok(Frame::data(body.slice(sent..next))), Some(next)))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Asks, and says whether what came whole is right.
async fn ask(world: &World, page: Page, client: usize, least: usize) -> Result<(), String> {
    let (language, cookie) = (LANGUAGES[fastrand::usize(..3)], format!("c{client}"));
    let control = ["no-cache", "only-if-cached", "max-stale=3", "max-age=60"][fastrand::usize(..4)];
    let mut with = vec![("accept-language", language), ("cookie", &cookie)];
    with.extend((fastrand::u8(..10) == 0).then_some(("cache-control", control)));
    let Ok(response) = world.ask("GET", &page.path(), &with).await else { return Ok(()) };
    let (head, mut body) = response.into_parts();
    if head.status != 200 {
        return Ok(());
    }
    let mut got = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(()) };
        got.extend(frame.into_data().unwrap_or_default());
        if fastrand::u8(..20) == 0 {
            turns(20).await;
        }
    }
    let text = String::from_utf8(got).map_err(|error| error.to_string())?;
    let parts: Vec<&str> = text.split('|').collect();
    let right = |at: usize, own: &str| parts.get(at).is_some_and(|part| *part == "*" || *part == own);
    let as_told = ["-", &*text.len().to_string()].contains(&field(&head.headers, "content-length"));
    let recent = parts.get(3).and_then(|version| version.parse().ok()).is_some_and(|version: usize| version >= least);
    match right(0, &page.number.to_string()) && right(1, language) && right(2, &cookie) && recent && as_told {
        true if text.ends_with('.') => Ok(()),
        _ => Err(format!("{with:?} since {least} got {:?} {text:.40}, {} bytes", head.headers, text.len())),
    }
}

#[tokio::test]
async fn whoever_walks_away_from_whatever_happens_leaves_nothing_behind() {
    for seed in 0..u64::from(cases().cases / 100) {
        fastrand::seed(seed);
        let (hangs, version) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (may_hang, versions) = (Arc::clone(&hangs), Arc::clone(&version));
        let origin = Origin::in_time(move |_, asked| {
            answer(may_hang.load(Ordering::SeqCst), versions.fetch_add(1, Ordering::SeqCst), asked)
        });
        let refreshes = shared().max_refreshes(3).refresh_timeout(Duration::from_secs(30));
        let world = World::new(refreshes.capacity_bytes(20_000).join_timeout(Duration::from_secs(5)), origin);
        // Whatever is asked for after a purge was made after it.
        let least: Arc<[AtomicUsize; Page::ALL]> = Arc::default();
        let clients = (0..16).map(|client| {
            let (world, version, least) = (world.clone(), Arc::clone(&version), Arc::clone(&least));
            tokio::spawn(async move {
                for _ in 0..30 {
                    let page = Page::of(fastrand::usize(..Page::ALL));
                    match fastrand::u8(..30) {
                        0 => {
                            world.cache.purge(&format!("https://example.com{}", page.path()).parse().expect("a URI"));
                            least[page.number].store(version.load(Ordering::SeqCst), Ordering::SeqCst);
                        }
                        1 => world.advance(fastrand::u64(..4)),
                        _ => {
                            let since = least[page.number].load(Ordering::SeqCst);
                            let patience = fastrand::u32(1..200);
                            tokio::select! {
                                told = ask(&world, page, client, since) => assert_eq!(told, Ok(()), "seed {seed}"),
                                () = turns(patience) => {}
                            }
                        }
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client that is content");
        }
        // What hangs has been given up by then.
        hangs.store(false, Ordering::SeqCst);
        world.advance(3600);
        settle().await;
        let stats = world.cache.stats();
        assert_eq!((stats.in_flight, stats.refreshing), (0, 0), "seed {seed}");
        // From now on everybody stays, and has an answer, or an error.
        for _ in 0..20 {
            let all = (0..16).map(|client| {
                let (world, page) = (world.clone(), Page::of(fastrand::usize(..Page::ALL)));
                let since = least[page.number].load(Ordering::SeqCst);
                // Each in a task of its own, which nobody polls but who wakes it.
                tokio::spawn(async move { ask(&world, page, client, since).await })
            });
            let all: Vec<_> = all.collect();
            let mut left = 5_000;
            while left > 0 && !all.iter().all(JoinHandle::is_finished) {
                turns(1).await;
                left -= 1;
            }
            for client in all {
                assert!(client.is_finished(), "seed {seed}: somebody has no answer");
                assert_eq!(client.await.expect("no panic"), Ok(()), "seed {seed}");
            }
            world.advance(1);
        }
        settle().await;
        let stats = world.cache.stats();
        assert_eq!((stats.in_flight, stats.refreshing), (0, 0), "seed {seed}");
    }
}
