//! Values as people write them, each read from text, in TOML and in flags; a wrong one says what to write instead.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, Uri};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Reads a value from text; what stands there without quotes is read as if it had them, so that it is told what it lacks.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, is: bool) -> Result<T, E> {
        self.visit_str(&is.to_string())
    }
}

macro_rules! from_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Text(PhantomData))
            }
        }
    )*};
}
from_text!(Span, Size, OriginUrl, RootedPath, FieldName, Address, PerhapsAddress);

/// An address to listen on.
struct Address(SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        if let Some(port) = local {
            return Ok(Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("\"{text}\" is no address with a port; write [{text}]:8080"));
        }
        let port: u16 = text.trim_start_matches(['*', ':']).parse().unwrap_or(8080);
        let cure = format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for every address of this machine");
        text.parse().map(Self).map_err(|_| format!("\"{text}\" is no address; {cure}"))
    }
}

/// An address, or `off`.
struct PerhapsAddress(Option<SocketAddr>);

impl FromStr for PerhapsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|wrong: String| format!("{wrong}, or \"off\" for none"))?;
        Ok(Self(Some(address).map(|Address(address)| address)))
    }
}

/// An address from a flag.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map(|Address(address)| address)
}

pub(super) fn socket<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    Address::deserialize(from).map(|Address(address)| address)
}

pub(super) fn perhaps_socket<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    PerhapsAddress::deserialize(from).map(|PerhapsAddress(address)| address)
}

/// A time as people write it: `250ms`, `30s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As the library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no time; write 250ms, 30s, 5m, 1h or 7d");
        let (number, unit) = split_unit(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60 * 1000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let whole = number.checked_mul(millis).filter(|&whole| whole <= 100 * 365 * 86_400_000);
        whole.map(Self::millis).ok_or_else(|| format!("\"{text}\" is longer than a hundred years; write less"))
    }
}

/// A number of bytes as people write it: `512`, `64 KiB`, `256MiB`, `1 GiB`, `10 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no size; write 64 KiB, 256 MiB, 1 GiB or 10 MB");
        let (number, unit) = split_unit(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "kb" => 1000,
            "m" | "mib" => 1 << 20,
            "mb" => 1_000_000,
            "g" | "gib" => 1 << 30,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).filter(|&bytes| bytes > 0).map(Self).ok_or_else(wrong)
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// An origin's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginUrl(Uri);

impl OriginUrl {
    /// As the library has it; always with scheme and authority.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl FromStr for OriginUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("\"{text}\" is no origin: {why}; write http://127.0.0.1:3000");
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins with neither http:// nor https://"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        if authority.is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it needs a host, and no password"));
        }
        // What stands behind the host can only be a port.
        let is_odd = |it: &Authority| it.as_str().len() > it.host().len() && it.port_u16().is_none_or(|port| port == 0);
        if authority.is_some_and(is_odd) {
            return Err(wrong("ports go from 1 to 65535"));
        }
        if uri.query().is_some() {
            return Err(wrong("it cannot have a query"));
        }
        Ok(Self(uri))
    }
}

/// The beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootedPath(String);

impl RootedPath {
    /// Whether a path lies at or below it: `/api` has `/api` and `/api/x`, not `/apis`; `/img/*.png` is no path.
    ///
    /// Written in whatever way: encoded or not, with digits of either case (RFC 3986 §6.2.2).
    pub fn holds(&self, path: &str) -> bool {
        let path = &*normal(path);
        let own = self.0.strip_suffix('*').unwrap_or(&self.0);
        match path.strip_prefix(own) {
            Some(rest) => self.0.ends_with(['*', '/']) || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Whether every path that `other` holds is held by this, too.
    pub(super) fn holds_all_of(&self, other: &Self) -> bool {
        match other.0.strip_suffix('*') {
            // What begins so may go on in any way.
            Some(beginning) => self.0.ends_with(['*', '/']) && beginning.starts_with(self.0.trim_end_matches('*')),
            None => self.holds(&other.0),
        }
    }
}

impl FromStr for RootedPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix('*').unwrap_or(text);
        if !body.starts_with('/') || body.contains(['*', '?', '#', ' ']) {
            return Err(format!("\"{text}\" is no path; write /api, /static/ or /img/*"));
        }
        Ok(Self(normal(text).into_owned()))
    }
}

/// A path as RFC 3986 §6.2.2 has it: what needs no encoding has none, what does has one, in capitals.
fn normal(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|byte| byte != b'%' && byte.is_ascii()) {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let encoded = after.get(..2).filter(|_| *byte == b'%');
        let encoded = encoded.and_then(|digits| Some((value_of(digits[0])? << 4) | value_of(digits[1])?));
        rest = if encoded.is_some() { &after[2..] } else { after };
        match encoded {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => text.push(char::from(byte)),
            None if byte.is_ascii() => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{:02X}", encoded.unwrap_or(*byte))),
        }
    }
    Cow::Owned(text)
}

fn value_of(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The name of a request field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(HeaderName);

impl FieldName {
    /// As the library has it.
    pub fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::try_from(text).map_err(|_| format!("\"{text}\" is no field; write accept-language"))?;
        Ok(Self(name))
    }
}

/// Whether a host (without port, in lower case) is one of these; none listed: every host is.
pub(crate) fn host_fits(hosts: &[String], host: &str) -> bool {
    hosts.is_empty()
        || hosts.iter().any(|wanted| match wanted.strip_prefix("*.") {
            Some(parent) => {
                let below = host.len() > parent.len() + 1 && host.as_bytes()[host.len() - parent.len() - 1] == b'.';
                below && host[host.len() - parent.len()..].eq_ignore_ascii_case(parent)
            }
            None => wanted.eq_ignore_ascii_case(host),
        })
}
