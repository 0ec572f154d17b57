//! The fields by which the variants of a response are told apart (RFC 9111 §4.1).

use std::borrow::Cow;
use std::iter;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, HeaderValue, VARY};

use super::fields::{detach, list, pieces, trim};

/// The fields that `Vary` names, with the values that the stored response's request had (RFC 9111 §4.1).
#[derive(Clone, Debug, Default)]
pub struct Vary(Box<[Nominated]>);

#[derive(Clone, Debug)]
struct Nominated {
    name: HeaderName,
    /// The lines as they came: most clients spell a field the same way each time.
    lines: Box<[HeaderValue]>,
    normal: Option<Box<[u8]>>,
}

/// Why a `Vary` cannot be stored.
pub(crate) enum Unselectable {
    Star,
    TooMany,
    Malformed,
}

impl Vary {
    pub(crate) fn of(response: &HeaderMap, request: &HeaderMap, most: usize) -> Result<Self, Unselectable> {
        let mut names: Vec<HeaderName> = Vec::new();
        for member in list(response.get_all(VARY).iter()) {
            // §4.1: a member "*" always fails to match.
            if member == b"*" {
                return Err(Unselectable::Star);
            }
            let name = HeaderName::from_bytes(member).map_err(|_| Unselectable::Malformed)?;
            if names.contains(&name) {
                continue;
            }
            if names.len() >= most {
                return Err(Unselectable::TooMany);
            }
            names.push(name);
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        let nominated = names.into_iter().map(|name| {
            let mut lines: Box<[_]> = request.get_all(&name).iter().cloned().collect();
            // Of their own: a view into what the request was read into would keep all of that alive as long as this is stored.
            lines.iter_mut().for_each(detach);
            let normal = normal(&name, &mut lines.iter());
            Nominated { name, lines, normal }
        });
        Ok(Self(nominated.collect()))
    }

    /// Whether the response had no `Vary`: it answers every request for its key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nominated fields, sorted by name.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|nominated| &nominated.name)
    }

    /// The nominated fields of the stored response's request as they came, line by line (RFC 9111 §4.3.1).
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().flat_map(|nominated| nominated.lines.iter().map(|line| (&nominated.name, line)))
    }

    /// Whether these request fields select it: each nominated field says the same, or is absent on both sides.
    ///
    /// Allocates only where a field is spelt differently from what was stored.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|nominated| {
            let now = request.get_all(&nominated.name);
            now.iter().eq(nominated.lines.iter()) || normal(&nominated.name, &mut now.iter()) == nominated.normal
        })
    }

    /// One key for all requests that select the same variant under these nominated fields, and for no others.
    ///
    /// Each value is preceded by its length, so that no two lists of values run into the same key.
    pub fn key(&self, request: &HeaderMap) -> Box<[u8]> {
        let mut key = Vec::new();
        for nominated in &self.0 {
            let value = normal(&nominated.name, &mut request.get_all(&nominated.name).iter());
            // Zero is absence, so a value counts one more than its length.
            let length = value.as_ref().map_or(0, |value| value.len() as u64 + 1);
            key.extend_from_slice(&length.to_be_bytes());
            key.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        key.into_boxed_slice()
    }

    /// Whether two stored responses answer the same requests, so that one replaces the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, two)| one.name == two.name && one.normal == two.normal)
    }
}

/// A field's value as it is compared: lines joined, white space around commas cut; lists whose order and case mean
/// nothing sorted and in lower case. `None` if the field is absent, which equals only absence (§4.1).
fn normal(name: &HeaderName, lines: &mut dyn Iterator<Item = &HeaderValue>) -> Option<Box<[u8]>> {
    let first = lines.next()?;
    let mut members: Vec<Cow<'_, [u8]>> = Vec::new();
    let preference = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) || name == "accept-charset";
    for member in iter::once(first).chain(lines).flat_map(|line| pieces(line.as_bytes())) {
        members.push(if preference { plain(member, *name == ACCEPT) } else { Cow::Borrowed(member) });
    }
    if preference {
        // Of others nobody knows whether they are lists, in which empty members mean nothing (RFC 9110 §5.6.1).
        members.retain(|member| !member.is_empty());
        members.sort_unstable();
        members.dedup();
    }
    Some(members.join(&b',').into_boxed_slice())
}

/// One weighted member without case and without white space around its parameters; RFC 9110 §12.4.2, §12.5: weights
/// order the members, not their place. A media type's parameters may heed case, so theirs stays.
fn plain(member: &[u8], media: bool) -> Cow<'_, [u8]> {
    if member.contains(&b'"') {
        return Cow::Borrowed(member);
    }
    let parts = member.split(|&byte| byte == b';').map(trim).enumerate();
    let parts = parts.map(|(at, part)| if media && at > 0 { part.to_owned() } else { part.to_ascii_lowercase() });
    Cow::Owned(parts.collect::<Vec<_>>().join(&b';'))
}
