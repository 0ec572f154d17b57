//! Cached functions: what stands above a function keeps what the cache promises.
//!
//! What Streamlit tests of its caches, and where the same ground is covered here. What concerns its screen, its sessions and its
//! files is not: the guide page `functions` says so, argument by argument.
//!
//! * pool: runs, skips when full, no threads, slot freed after a failure, size, size 0 → `refreshing::r2_*`,
//!   `it::refresh` (`r2_*`), `whole_process`
//! * multiplier of the ttl: default, wrong values, overflow → `refreshing::t1_*`, `it::time`; wrong ones are
//!   `ui/durations`, `ui/window_without_ttl`
//! * clear of one key, of all, of everything; against a load and a refresh → `errors::i1_*`, `behind::i1_*`,
//!   `refreshing::r4_*`, `whole_process`
//! * stale at once, then new; fifty callers, one refresh; boundaries; clock from the end of the run →
//!   `refreshing::t1_*`, `t2_*`, `r1_*`
//! * failed refresh: kept, left alone, forgiven; of an overtaken one; panics → `refreshing::r3_*`, `behind::r3_*`,
//!   `behind::i1_*`
//! * background without ttl, unknown mode, with persist → `ui/background_without_ttl`, `ui/unknown`,
//!   `ui/from_elsewhere`
//! * asynchronous: once, shared, across event loops, owner fails or is cancelled, waiter is cancelled, cleared
//!   meanwhile → `errors::l1_*`, `l2_*`, `l3_*`, `it::one_load`, `places::asynchronous_*`
//! * ignored arguments, methods, mutated and unhashable arguments → `places`, `names`, `ui/key_without_hash`
//! * ttl, two functions with two; 50 threads call and clear → `storing::two_functions_*`, `errors::many_threads_*`,
//!   `errors::l1_an_unwarmed_*`
//! * data is copied, resources are shared → `places::v1_*`, `sharing::v2_callers_*`
//! * validate: each access, failed, raising, while stale; replaced meanwhile → `sharing::v2_validate_*`,
//!   `v2_what_*`, `a_validate_that_panics_*`
//! * on_release: once for each way out, raising, calling back → `sharing::v2_released_*`, `v2_a_release_*`, `m5_*`
//! * the map: LRU, overwriting, expiry in order, sweeping, one oversized value → `storing::m1_*`, `it::memory`,
//!   `it::model`
//! * statistics, names → `storing::o1_*`, `storing::the_registry_*`, `names::methods_are_told_apart_*`
#![cfg(feature = "macros")]
#![allow(missing_docs, unreachable_pub, dead_code, unused_variables, reason = "tests")]
#![allow(clippy::unnecessary_operation, clippy::multiple_bound_locations, clippy::ptr_arg, reason = "tests of forms")]

mod behind;
mod errors;
#[path = "../it/kit.rs"]
mod kit;
mod names;
mod places;
mod refreshing;
mod sharing;
mod storing;
