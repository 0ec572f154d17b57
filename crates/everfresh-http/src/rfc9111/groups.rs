//! Responses that are forgotten together (RFC 9875).

use http::{HeaderMap, request, response};

use super::invalidation;

/// At least 32 groups of 32 characters are to be supported (RFC 9875 §2.1); a field with more is void, as a member more
/// could not be remembered.
const MOST_GROUPS: usize = 128;
const LONGEST: usize = 256;

/// The groups that a response belongs to, from `Cache-Groups` (RFC 9875 §2).
///
/// Groups mean something within one origin only. Empty if the field is not a list of strings; groups past the 128th or
/// longer than 256 bytes are left out.
pub fn groups(response: &HeaderMap) -> Vec<Box<str>> {
    read(response, "cache-groups")
}

/// The groups of the target's origin that a response makes stale, from `Cache-Group-Invalidation` (RFC 9875 §3).
///
/// Empty unless the request was unsafe and succeeded: only these are heeded. What is invalidated by a group
/// invalidates no further groups of its own (RFC 9875 §2.2).
pub fn invalidated_groups(request: &request::Parts, response: &response::Parts) -> Vec<Box<str>> {
    if invalidation::invalidates(request, response) {
        read(&response.headers, "cache-group-invalidation")
    } else {
        Vec::new()
    }
}

fn read(headers: &HeaderMap, field: &'static str) -> Vec<Box<str>> {
    let mut lines = headers.get_all(field).iter();
    let Some(first) = lines.next() else { return Vec::new() };
    let joined = lines.fold(first.as_bytes().to_owned(), |mut all, line| {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
        all
    });
    let Ok(members) = sfv::Parser::new(&joined).parse::<sfv::List>() else { return Vec::new() };
    let named = |entry: sfv::ListEntry| match entry {
        sfv::ListEntry::Item(item) => item.bare_item.as_string().map(|text| Box::from(text.as_str())),
        sfv::ListEntry::InnerList(_) => None,
    };
    // RFC 9875 §2: a list of strings; anything else among them voids the field.
    let Some(groups) = members.into_iter().map(named).collect::<Option<Vec<Box<str>>>>() else { return Vec::new() };
    groups.into_iter().filter(|group| group.len() <= LONGEST).take(MOST_GROUPS).collect()
}
