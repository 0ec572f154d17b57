//! When a stale response may stand in (RFC 9111 §4.2.4, RFC 5861).

use std::time::Duration;

use super::control::ResponseControl;
use super::freshness::Origin;
use super::rules::Choices;

/// §4.2.4: no-cache, must-revalidate, and in a shared cache proxy-revalidate and s-maxage forbid every stale response,
/// whatever a window or a client says.
pub(crate) fn is_forbidden(choices: &Choices, control: &ResponseControl) -> bool {
    control.no_cache.is_whole()
        || control.must_revalidate
        || (choices.shared
            && (control.proxy_revalidate || (control.s_maxage().is_some() && !choices.stale_despite_s_maxage)))
}

/// Whether nothing in a response tells a shared cache that it may be kept: no lifetime, not even one to be guessed, no
/// window, no `public`. §3 allows to store it; but whose it is may be said by a cookie, or by whatever else stands for
/// `Authorization`, so it is given to nobody without asking: not while disconnected, and not to who takes stale ones.
pub(crate) fn is_silent(choices: &Choices, control: &ResponseControl, origin: Origin) -> bool {
    let windows = control.stale_while_revalidate().is_some() || control.stale_if_error().is_some();
    choices.shared && origin == Origin::Nothing && !control.public && !windows
}

/// How long past its lifetime a response may be served, on each ground.
#[derive(Clone, Copy, Default)]
pub(crate) struct Windows {
    /// RFC 5861 §3
    pub(crate) swr: Duration,
    /// RFC 5861 §4
    pub(crate) sie: Duration,
    /// §4.2.4: while disconnected.
    pub(crate) apart: Duration,
}

impl Windows {
    pub(crate) fn widest(self) -> Duration {
        self.swr.max(self.sie).max(self.apart)
    }
}

/// The windows that hold: the origin's word, else the operator's default, at most the operator's cap.
pub(crate) fn windows(choices: &Choices, control: &ResponseControl, forbidden: bool, silent: bool) -> Windows {
    if forbidden {
        return Windows::default();
    }
    let swr = control.stale_while_revalidate().or(choices.default_swr).unwrap_or_default();
    let sie = control.stale_if_error().or(choices.default_sie).unwrap_or_default();
    Windows {
        swr: swr.min(choices.max_swr),
        sie: sie.min(choices.max_sie),
        apart: choices.when_disconnected.filter(|_| !silent).unwrap_or_default(),
    }
}
