//! The situations in which a proxy has to choose between stale and late, as one table.

use super::kit::{Origin, World, settle, shared, text};

/// What the origin does when it is asked again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Answers(u16),
    Fails,
    Hangs,
}
use Then::{Answers, Fails, Hangs};

const SWR: &str = "max-age=10, stale-while-revalidate=20";
const SIE: &str = "max-age=10, stale-if-error=20";
const BOTH: &str = "max-age=10, stale-while-revalidate=20, stale-if-error=40";

/// Number, Cache-Control of what is stored, seconds until it is asked for again, what the origin does then, outcome and
/// status of that request.
const TABLE: [(u8, &str, u64, Then, &str, u16); 36] = [
    (1, SWR, 9, Answers(200), "hit", 200),
    (2, SWR, 10, Answers(200), "stale", 200),
    (3, SWR, 29, Answers(200), "stale", 200),
    (4, SWR, 30, Answers(200), "replaced", 200),
    (5, SWR, 15, Answers(500), "stale", 200),
    (6, SWR, 15, Answers(404), "stale", 200),
    (7, SWR, 15, Fails, "stale", 200),
    (8, SWR, 15, Hangs, "stale", 200),
    (9, SWR, 31, Answers(500), "uncacheable", 500),
    (10, SWR, 31, Answers(404), "replaced", 404),
    (11, SWR, 31, Fails, "error", 0),
    (12, SIE, 9, Fails, "hit", 200),
    (13, SIE, 15, Answers(200), "replaced", 200),
    (14, SIE, 15, Answers(500), "fallback", 200),
    (15, SIE, 15, Answers(502), "fallback", 200),
    (16, SIE, 15, Answers(503), "fallback", 200),
    (17, SIE, 15, Answers(504), "fallback", 200),
    (18, SIE, 15, Answers(501), "replaced", 501),
    (19, SIE, 15, Answers(404), "replaced", 404),
    (20, SIE, 15, Answers(403), "uncacheable", 403),
    (21, SIE, 15, Answers(429), "uncacheable", 429),
    (22, SIE, 15, Fails, "fallback", 200),
    (23, SIE, 30, Answers(500), "uncacheable", 500),
    (24, SIE, 30, Fails, "error", 0),
    (25, BOTH, 15, Fails, "stale", 200),
    (26, BOTH, 35, Fails, "fallback", 200),
    (27, BOTH, 35, Answers(503), "fallback", 200),
    (28, BOTH, 35, Answers(200), "replaced", 200),
    (29, BOTH, 51, Fails, "error", 0),
    (30, "max-age=10, stale-while-revalidate=20, must-revalidate", 15, Answers(200), "replaced", 200),
    (31, "max-age=10, stale-if-error=20, must-revalidate", 15, Answers(500), "uncacheable", 500),
    (32, "max-age=10, stale-while-revalidate=20, proxy-revalidate", 15, Answers(200), "replaced", 200),
    (33, "s-maxage=10, stale-while-revalidate=20", 15, Answers(200), "replaced", 200),
    (34, "no-cache, stale-while-revalidate=20", 5, Answers(200), "replaced", 200),
    (35, "max-age=10, stale-while-revalidate=bad", 15, Answers(200), "replaced", 200),
    (36, "max-age=10", 15, Answers(500), "uncacheable", 500),
];

#[tokio::test]
async fn every_situation_has_its_outcome_and_one_background_request_where_stale_is_served() {
    for (number, control, after, then, outcome, status) in TABLE {
        let origin = Origin::new(move |count, _| match then {
            _ if count == 0 => Ok(text(200, &[("cache-control", control), ("etag", "\"1\"")], "old")),
            // 404 and 501 may be stored by their status and a validator; others by what they say.
            Answers(other @ (200 | 404 | 501)) => {
                Ok(text(other, &[("cache-control", "max-age=10"), ("etag", "\"2\"")], "new"))
            }
            Answers(other) => Ok(text(other, &[], "failed")),
            Fails => Err("refused".to_owned()),
            Hangs => Ok(text(200, &[], "late")),
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        world.advance(after);
        if then == Hangs {
            world.origin.hold();
        }
        let got = match world.ask("GET", "/a", &[]).await {
            Ok(response) => super::kit::read(response).await,
            Err(error) => {
                assert_eq!((outcome, error.as_str()), ("error", "refused"), "situation {number}");
                continue;
            }
        };
        assert_eq!((got.outcome().name(), got.status), (outcome, status), "situation {number}: {got:?}");
        settle().await;
        let asked = if outcome == "hit" { 1 } else { 2 };
        assert_eq!(world.origin.count(), asked, "situation {number}");
        if matches!(outcome, "hit" | "stale" | "fallback") {
            assert_eq!(
                (got.body.as_str(), got.field("age")),
                ("old", after.to_string().as_str()),
                "situation {number}"
            );
        }
        // What came behind is there for the next one.
        if outcome == "stale" {
            let next = world.get("/a").await;
            let want = match then {
                Answers(200) => "hit new",
                Answers(404) => "hit new",
                _ => "stale old",
            };
            assert_eq!(next.brief(), want, "situation {number}");
        }
    }
}
