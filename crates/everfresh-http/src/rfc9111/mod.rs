//! The rules of HTTP caching as pure functions of (request, stored response, now).
//!
//! No clock, no network, no store: whoever keeps the bytes asks [`Rules`] what may be kept, what may be served, what
//! must be asked again and what an answer changes. The files are the table of contents of RFC 9111 and its companions:
//!
//! | file | clause | answers |
//! |---|---|---|
//! | `storing` | RFC 9111 §3, §3.1, §3.5 | [`Rules::may_store`]: may this response be kept, and as what [`Meta`] |
//! | `update` | §3.2, §4.3.4, §4.3.5 | [`Rules::freshen`], [`Rules::update_from_head`]: what a 304 or a HEAD changes |
//! | `partial` | §3.3, §3.4 | [`completion`], [`combine`]: parts of a representation, and how they become whole |
//! | `reusing` | §4, §4.2.4, RFC 5861 | [`Rules::bypass`], [`Rules::reuse`], [`Rules::may_serve_on_error`] |
//! | `selecting`, `vary` | §4.1 | [`Meta::matches`], [`select`]: which stored variant a request selects |
//! | `freshness`, `age` | §4.2 | how long a response stays fresh, how old it is |
//! | `validation` | §4.3 | [`conditional`], [`refreshing`]: the request that asks whether the stored one still holds |
//! | `precondition`, `range` | RFC 9110 §13, §14 | [`evaluate`]: 304, 206 and 416 answered from what is stored |
//! | `invalidation` | §4.4 | [`invalidated_by`]: what an unsafe request makes unservable |
//! | `control` | §5.2, §5.4 | the directives of requests and responses |
//! | `targeted` | RFC 9213 | `CDN-Cache-Control` and other fields for one class of caches |
//! | `status` | RFC 9211 | [`CacheStatus`]: telling what the cache did |
//! | `groups` | RFC 9875 | [`groups`], [`invalidated_groups`]: responses that are forgotten together |
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use everfresh_http::rfc9111::{Reuse, Rules, conditional};
//! use http::{Request, Response};
//!
//! let rules = Rules::shared();
//! let (request, ()) = Request::get("https://example.com/a").body(())?.into_parts();
//! let control = "max-age=60, stale-while-revalidate=30";
//! let (response, ()) = Response::builder().header("cache-control", control).header("etag",
//! "\"a\"").body(())?.into_parts();
//!
//! let came = SystemTime::now();
//! let stored = rules.may_store(&request, &response, came, came).expect("nothing forbids it");
//! let after = |seconds| rules.reuse(&request, &stored, came + Duration::from_secs(seconds));
//! assert!(matches!(after(59), Reuse::Fresh { .. }));
//! assert!(matches!(after(89), Reuse::Stale { refresh: true, .. }));
//! assert!(matches!(after(90), Reuse::Revalidate { .. }));
//!
//! let fields = conditional(&request, &[&stored]).expect("it has a validator");
//! assert_eq!(fields["if-none-match"], "\"a\"");
//! # Ok::<(), http::Error>(())
//! ```
//!
//! Hostile or malformed fields never fail a request: the RFC's own rule is followed where it has one, the
//! conservative reading (not stored, stale, not matched) where it has none.

mod age;
mod control;
mod fields;
mod freshness;
mod groups;
mod invalidation;
mod meta;
mod partial;
mod precondition;
mod range;
mod reusing;
mod rules;
mod selecting;
mod stale;
mod status;
mod storing;
mod targeted;
mod update;
mod validation;
mod vary;

pub use age::age_field;
pub use control::{RequestControl, ResponseControl};
pub use fields::{EntityTag, parse_date};
pub use freshness::Origin;
pub use groups::{groups, invalidated_groups};
pub use invalidation::{invalidated_by, invalidates};
pub use meta::{Extent, Meta};
pub use partial::{Combined, Source, combine, completion};
pub(crate) use precondition::known_already;
pub use precondition::{Multipart, Part, Served, evaluate};
pub use reusing::{Bypass, Failure, Reuse, StaleBy, Unusable, WhyRevalidate};
pub use rules::Rules;
pub use selecting::select;
pub(crate) use status::HitStatus;
pub use status::{CacheStatus, Forwarded};
pub use storing::WhyNot;
pub use update::{Freshened, HeadUpdate, validated};
pub(crate) use update::{nominated, validated_for};
pub use validation::{conditional, refreshing, strip_conditions};
pub(crate) use validation::{may_be_named, renewing};
pub use vary::Vary;
