//! Directives for one class of caches (RFC 9213).

use http::HeaderMap;

use super::control::{Argument, ResponseControl};
use super::rules::Choices;

/// The directives that govern a response, and whether they come from a targeted field, which puts `Cache-Control` and
/// `Expires` out of force (RFC 9213 §2.2).
pub(crate) fn governing(choices: &Choices, headers: &HeaderMap) -> (ResponseControl, bool) {
    // RFC 9213 §2.2: the first field of the target list that is present, valid and not empty.
    let targeted = choices.targets.iter().find_map(|name| {
        let mut lines = headers.get_all(name).iter();
        let first = lines.next()?;
        // RFC 9651 §4.2: several lines are one value, joined by a comma.
        let joined = lines.fold(first.as_bytes().to_owned(), |mut all, line| {
            all.extend_from_slice(b", ");
            all.extend_from_slice(line.as_bytes());
            all
        });
        let members: sfv::Dictionary = sfv::Parser::new(&joined).parse().ok()?;
        (!members.is_empty()).then(|| control(&members))
    });
    match targeted {
        Some(control) => (control, true),
        None => (ResponseControl::parse(headers), false),
    }
}

fn control(members: &sfv::Dictionary) -> ResponseControl {
    let mut own = ResponseControl::default();
    for (name, entry) in members {
        let item = match entry {
            sfv::ListEntry::Item(item) => &item.bare_item,
            sfv::ListEntry::InnerList(_) => {
                own.add(name.as_str().as_bytes(), Argument::Malformed);
                continue;
            }
        };
        let number = item.as_integer().map(|integer| integer.to_string());
        let argument = match (item.as_boolean(), &number, item.as_string()) {
            // RFC 9213 §2.1: a directive without a value is a Boolean true; false says that it does not hold.
            (Some(false), ..) => continue,
            (Some(true), ..) => Argument::Absent,
            (None, Some(digits), _) => Argument::Text(digits.as_bytes()),
            // A string may name fields; it is no integer, even if it looks like one.
            (None, None, Some(text)) if ["no-cache", "private"].contains(&name.as_str()) => {
                Argument::Text(text.as_str().as_bytes())
            }
            (None, None, _) => Argument::Malformed,
        };
        own.add(name.as_str().as_bytes(), argument);
    }
    own
}
