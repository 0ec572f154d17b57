//! What a configuration must not say, and how it is told: file, line, cure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{Config, OriginUrl, RootedPath, RuleSettings, host_fits};

/// What is wrong with a configuration, where, and what to do about it.
#[derive(Clone, Debug)]
pub struct Wrong {
    file: Option<PathBuf>,
    line: Option<usize>,
    what: String,
    cure: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(out, "{}", file.display())?;
            self.line.map_or(Ok(()), |line| write!(out, ":{line}"))?;
            out.write_str(": ")?;
        }
        write!(out, "{}\n  cure: {}", self.what, self.cure)
    }
}

impl std::error::Error for Wrong {}

impl Wrong {
    /// What is wrong with the value of a key, which turned out after the file was read.
    pub(crate) fn later(file: &Path, table: &str, key: &str, what: String, cure: &str) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Self { file: Some(file.to_owned()), line: line_of(&text, table, 0, key), what, cure: cure.to_owned() }
    }
}

/// A value that cannot be meant: table, the how manieth of its name, key, what is wrong, cure.
struct Nonsense(&'static str, usize, &'static str, String, String);

impl Nonsense {
    fn at(table: &'static str, key: &'static str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self(table, 0, key, what.into(), cure.into())
    }
}

/// Every key and where it belongs.
const PLACES: &[(&str, &[&str])] = &[
    ("at the top, above all [tables]", &["listen", "tls", "admin", "cache", "limits", "timeouts", "log"]),
    ("in [tls]", &["cert", "key"]),
    ("in [admin]", &["token"]),
    (
        "in [cache]",
        &["capacity", "max_body", "max_refreshes", "max_variants", "stale_when_disconnected", "stale_despite_s_maxage"],
    ),
    ("in [limits]", &["head", "body", "connections", "waiters"]),
    ("in [timeouts]", &["connect", "first_byte", "idle", "whole", "keep_alive", "pool", "tunnel", "drain"]),
    ("in [log]", &["format", "access"]),
    ("in [[origin]]", &["url", "preserve_host", "trust_forwarded", "http2"]),
    (
        "in [[rule]]",
        &[
            "ttl",
            "stale_while_revalidate",
            "stale_if_error",
            "bypass",
            "ignore_query",
            "key_headers",
            "max_vary",
            "ignore_client_no_cache",
        ],
    ),
];

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be meant: file, line and cure.
    pub fn read(path: &Path) -> Result<Self, Wrong> {
        Self::read_with(path, |_| ())
    }

    /// Reads a file, lets flags win over it, and checks what both say together.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be meant, flags or not: file, line and cure; or the flags make it so: what,
    /// and a cure.
    pub fn read_with(path: &Path, flags: impl FnOnce(&mut Self)) -> Result<Self, Wrong> {
        let wrong =
            |line, what: String, cure: &str| Wrong { file: Some(path.to_owned()), line, what, cure: cure.into() };
        let bytes = std::fs::read(path).map_err(|error| {
            wrong(None, format!("cannot be read: {error}"), "give the path of a TOML file that this user may read")
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
            wrong(Some(line), "this is no text in UTF-8".into(), "save the file as UTF-8")
        })?;
        Self::parse_with(path, text, flags)
    }

    /// Checks what a file says.
    ///
    /// # Errors
    /// It says what cannot be meant: file, line and cure.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Wrong> {
        Self::parse_with(path, text, |_| ())
    }

    fn parse_with(path: &Path, text: &str, flags: impl FnOnce(&mut Self)) -> Result<Self, Wrong> {
        let wrong = |line, (what, cure)| Wrong { file: Some(path.to_owned()), line, what, cure };
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count());
            let here = line.and_then(|line| text.lines().nth(line)).unwrap_or_default();
            let key = here.split_once('=').map_or("", |(key, _)| key.trim());
            wrong(line.map(|line| line + 1), explain(error.message(), key))
        })?;
        if !says(text, "cache", "max_body") {
            config.cache.bound_max_body();
        }
        let alone = config.nonsense();
        flags(&mut config);
        match (config.nonsense(), alone) {
            (None, _) => Ok(config),
            (Some(Nonsense(table, nth, key, what, cure)), Some(alone)) if what == alone.3 => {
                Err(wrong(line_of(text, table, nth, key), (what, cure)))
            }
            (Some(_), _) => config.check().map(|()| config),
        }
    }

    /// Checks what flags and file together say.
    ///
    /// # Errors
    /// It says what cannot be meant: what, and a cure.
    pub fn check(&self) -> Result<(), Wrong> {
        match self.nonsense() {
            Some(Nonsense(.., what, cure)) => Err(Wrong { file: None, line: None, what, cure }),
            None => Ok(()),
        }
    }

    /// The first thing that cannot be meant.
    fn nonsense(&self) -> Option<Nonsense> {
        let of_a_rule = || self.rules.iter().enumerate().find_map(|(at, rule)| rule.nonsense(at));
        self.wrong_numbers().or_else(|| self.wrong_addresses()).or_else(|| self.wrong_hosts()).or_else(of_a_rule)
    }

    fn wrong_numbers(&self) -> Option<Nonsense> {
        let (cache, limits, timeouts) = (&self.cache, &self.limits, &self.timeouts);
        if cache.capacity.get() < 64 << 10 {
            return Some(Nonsense::at("cache", "capacity", "the cache's capacity is below 64 KiB", "write 256 MiB"));
        }
        if cache.max_body.get() > cache.capacity.get() {
            let cure = "no body can be larger than the whole cache: write less, or a larger capacity";
            return Some(Nonsense::at("cache", "max_body", "cache.max_body is larger than cache.capacity", cure));
        }
        if limits.head.get() < 8192 {
            return Some(Nonsense::at("limits", "head", "limits.head is below 8 KiB", "give it 8 KiB or more"));
        }
        let counts = [
            ("limits", "connections", limits.connections),
            ("limits", "waiters", limits.waiters),
            ("cache", "max_variants", cache.max_variants),
        ];
        if let Some((table, name, _)) = counts.into_iter().find(|(.., value)| *value == 0) {
            let (what, cure) = (format!("{name} = 0 would serve nobody"), format!("leave {name} out for its default"));
            return Some(Nonsense::at(table, name, what, cure));
        }
        let times = [
            ("connect", timeouts.connect),
            ("first_byte", timeouts.first_byte),
            ("idle", timeouts.idle),
            ("whole", timeouts.whole),
            ("head", timeouts.head),
            ("keep_alive", timeouts.keep_alive),
            ("tunnel", timeouts.tunnel),
        ];
        let (name, _) = times.into_iter().find(|(_, time)| time.get().is_zero())?;
        let (what, cure) = (format!("timeouts.{name} of nothing would serve nobody"), "write 10s, or leave it out");
        Some(Nonsense::at("timeouts", name, what, cure))
    }

    fn wrong_addresses(&self) -> Option<Nonsense> {
        if self.origins.is_empty() {
            let cure = "add [[origin]] with url = \"http://127.0.0.1:3000\"";
            return Some(Nonsense::at("", "origin", "there is no origin to ask", cure));
        }
        let leads = |to| self.origins.iter().position(|origin| leads_to(&origin.url, to));
        if let Some(at) = leads(self.listen) {
            let what = format!("{} is where this proxy listens: it would ask itself", self.origins[at].url);
            let cure = "name your server's own port, or give listen (--listen) another";
            return Some(Nonsense("origin", at, "url", what, cure.into()));
        }
        if let Some(at) = self.admin.listen.and_then(leads) {
            let what = format!("{} is this proxy's admin address, which is not for all", self.origins[at].url);
            let cure = "name your server's own port, or give the admin address another: admin.listen, or --admin";
            return Some(Nonsense("origin", at, "url", what, cure.into()));
        }
        if self.admin.listen == Some(self.listen) && self.listen.port() != 0 {
            let cure = "give the admin address a port of its own: admin.listen, or --admin";
            return Some(Nonsense::at("admin", "listen", "the admin address is the public one", cure));
        }
        if self.admin.token.as_ref().is_some_and(super::Secret::is_empty) {
            let cure = "write a long one, or leave it out: then nothing can be purged";
            return Some(Nonsense::at("admin", "token", "the token is empty, which guards nothing", cure));
        }
        if self.admin.token.as_ref().is_some_and(|token| !token.can_be_sent()) {
            let cure = "write letters, digits and signs of ASCII, and no space or end of line around them";
            let what = "the token is none that a client could send";
            return Some(Nonsense::at("admin", "token", what, cure));
        }
        let tls = self.tls.as_ref()?;
        let (name, path) = [("cert", &tls.cert), ("key", &tls.key)].into_iter().find(|(_, path)| !path.is_file())?;
        let what = format!("tls.{name}: there is no file {}", path.display());
        Some(Nonsense::at("tls", name, what, "give the path of a PEM file"))
    }

    fn wrong_hosts(&self) -> Option<Nonsense> {
        let origins: Vec<_> = self.origins.iter().map(|own| (&own.hosts[..], own.path.as_ref())).collect();
        let rules: Vec<_> = self.rules.iter().map(|own| (&own.hosts[..], own.path.as_ref())).collect();
        for (table, all) in [("origin", origins), ("rule", rules)] {
            for (at, (hosts, _)) in all.iter().enumerate() {
                if let Some((host, cure)) = hosts.iter().find_map(|host| Some((host, cure_of_host(host)?))) {
                    return Some(Nonsense(table, at, "hosts", format!("\"{host}\" is no host"), cure.into()));
                }
                let again = |(at, host): (usize, &String)| hosts[..at].iter().any(|it| it.eq_ignore_ascii_case(host));
                if let Some(at_host) = (0..hosts.len()).find(|&it| again((it, &hosts[it]))) {
                    let what = format!("\"{}\" is named twice", hosts[at_host]);
                    return Some(Nonsense(table, at, "hosts", what, "leave one of the two out".into()));
                }
            }
            for (late, one) in all.iter().enumerate() {
                let Some(early) = all[..late].iter().position(|before| takes_all_of(*before, *one)) else { continue };
                let number = early + 1;
                let (what, cure) = if takes_all_of(*one, all[early]) {
                    ("it fits the same requests as", "leave one of the two out, or tell them apart by hosts or path")
                } else {
                    ("all of its requests are taken by", "the first that fits holds: put this one before it")
                };
                let what = format!("this [[{table}]] is never reached: {what} number {number} in the file");
                return Some(Nonsense(table, late, "", what, cure.into()));
            }
        }
        None
    }
}

impl RuleSettings {
    /// What of this rule, the how manieth of the file, cannot be meant.
    fn nonsense(&self, at: usize) -> Option<Nonsense> {
        let wrong = |key, what: &str, cure: &str| Some(Nonsense("rule", at, key, what.into(), cure.into()));
        if self.bypass && !self.says_nothing_of_storing() {
            let cure = "leave out bypass, or all that says how to store: what goes past the cache is not stored";
            return wrong("bypass", "bypass = true contradicts the rest of its rule", cure);
        }
        if self.ttl.is_some_and(|ttl| ttl.get().is_zero()) && self.stale_while_revalidate.is_none() {
            let cure = "write bypass = true, or give it a stale_while_revalidate to be served in";
            return wrong("ttl", "a ttl of nothing: what is stored so is never served", cure);
        }
        let spans = [
            ("ttl", self.ttl),
            ("stale_while_revalidate", self.stale_while_revalidate),
            ("stale_if_error", self.stale_if_error),
        ];
        if let Some((key, _)) = spans.into_iter().find(|(_, span)| span.is_some_and(|it| it.get().subsec_nanos() > 0)) {
            return wrong(key, "HTTP knows no part of a second", "write whole seconds, as 1s");
        }
        let odd = self.ignore_query.iter().find(|name| name.is_empty() || name.contains(['=', '&', '?', '#', ' ']));
        let what = odd.map(|name| format!("\"{name}\" is no name of a parameter"))?;
        wrong("ignore_query", &what, "write names alone, as [\"utm_*\", \"gclid\"]")
    }

    fn says_nothing_of_storing(&self) -> bool {
        let stores = Self { hosts: Vec::new(), path: None, bypass: false, ignore_query: Vec::new(), ..self.clone() };
        stores == Self::default()
    }
}

/// Whether a URL leads to where this proxy listens, as far as it can be known without asking for names.
fn leads_to(origin: &OriginUrl, listening: SocketAddr) -> bool {
    let (uri, own) = (origin.uri(), listening.ip());
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let leads_here = |ip: IpAddr| ip == own || (own.is_unspecified() && ip.is_loopback());
    let here = match host.parse() {
        Ok(ip) => leads_here(ip),
        Err(_) => host.eq_ignore_ascii_case("localhost") && (own.is_loopback() || own.is_unspecified()),
    };
    here && listening.port() == uri.port_u16().unwrap_or(usual)
}

fn cure_of_host(host: &str) -> Option<&'static str> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    match name {
        "*" => Some("leave hosts out: then it is for every host"),
        _ if name.is_empty() || name.contains(['*', '/', ' ', '@']) => Some("write example.com or *.example.com"),
        _ if name.ends_with('.') => Some("leave the dot at its end out: it is meant with one, too"),
        _ if name.parse::<Ipv6Addr>().is_ok() => Some("write it in brackets, as [::1]"),
        _ if !name.is_ascii() => Some("write it as clients send it, as xn--bcher-kva.example"),
        _ if name.trim_start_matches(|it| it != ']').contains(':')
            || (name.contains(':') && !name.starts_with('[')) =>
        {
            Some("leave the port out: all ports of a host are meant")
        }
        _ => None,
    }
}

/// Whether all hosts that `host` means are meant by one of these, too.
fn takes_host(hosts: &[String], host: &str) -> bool {
    let Some(parent) = host.strip_prefix("*.") else { return host_fits(hosts, host) };
    // Of what lies below a host, its name alone takes nothing.
    let mut wide = hosts.iter().filter(|wide| wide.starts_with("*."));
    wide.any(|wide| wide.eq_ignore_ascii_case(host) || host_fits(std::slice::from_ref(wide), parent))
}

/// Whether all that fits `one` fits `before`, too.
fn takes_all_of(before: (&[String], Option<&RootedPath>), one: (&[String], Option<&RootedPath>)) -> bool {
    let hosts = before.0.is_empty() || (!one.0.is_empty() && one.0.iter().all(|host| takes_host(before.0, host)));
    let paths = match (before.1, one.1) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide == narrow || wide.holds_all_of(narrow),
    };
    hosts && paths
}

/// The line of a key in the how manieth table of this name, however it is written; the table's own line if the key is not
/// in it. What is in no table of the file is a default that a key at the top does not go with.
fn line_of(text: &str, table: &str, nth: usize, key: &str) -> Option<usize> {
    let whole = DeTable::parse(text).ok()?;
    let of_table = whole.get_ref().iter().find(|(name, _)| name.get_ref() == table).and_then(|(_, value)| {
        let value = value.as_ref().as_array().map_or(Some(value), |several| several.get(nth))?;
        Some(start_of(value.as_ref().as_table()?, key).unwrap_or(value.span().start))
    });
    let start = of_table.or_else(|| start_of(whole.get_ref(), key))?;
    Some(text.get(..start)?.matches('\n').count() + 1)
}

/// Whether a key stands in a table, however that is written.
fn says(text: &str, table: &str, key: &str) -> bool {
    let whole = DeTable::parse(text).ok();
    whole.is_some_and(|whole| {
        let found = whole.get_ref().iter().find(|(name, _)| name.get_ref() == table);
        found.and_then(|(_, value)| start_of(value.as_ref().as_table()?, key)).is_some()
    })
}

fn start_of(table: &DeTable<'_>, key: &str) -> Option<usize> {
    table.keys().find(|name| name.get_ref() == key).map(|name| name.span().start)
}

/// What toml says of the value of a key, as a sentence and a cure.
fn explain(message: &str, key: &str) -> (String, String) {
    let ticked: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let first = message.lines().next().unwrap_or_default();
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), &ticked[..]) {
        return (format!("unknown key {unknown}"), cure_of_unknown(unknown, known));
    }
    if let (true, [missing, ..]) = (message.starts_with("missing field"), &ticked[..]) {
        let cure = match *missing {
            "origin" | "url" => "add [[origin]] with url = \"http://127.0.0.1:3000\"".to_owned(),
            other => format!("add {other} = …"),
        };
        return (format!("{missing} is missing"), cure);
    }
    if let (true, [variant, known @ ..]) = (message.starts_with("unknown variant"), &ticked[..]) {
        return (format!("\"{variant}\" is not known here"), format!("write \"{}\"", known.join("\" or \"")));
    }
    if let Some((what, cure)) = message.split_once("; ") {
        return (what.to_owned(), cure.to_owned());
    }
    let several = ["origin", "rule"].contains(&key) || message.contains("map, expected a sequence");
    let cure = match message {
        _ if several => "write its name in two brackets, as [[origin]], and its keys below".to_owned(),
        _ if message.contains("expected a sequence") => "write a list, as [\"one\", \"two\"]".to_owned(),
        _ if message.contains("expected a boolean") => "write true or false, without quotes".to_owned(),
        _ if message.contains("expected struct") => format!("write it as a table: [{key}], and its keys below"),
        _ if message.contains("wanted string or table") => "write \"human\" or \"json\"".to_owned(),
        _ if message.contains("expected a string") || message.contains("must be quoted") => {
            "write it in quotes".to_owned()
        }
        _ if message.contains("expected usize") => "write a whole number, without quotes".to_owned(),
        _ if message.contains("duplicate key") => "leave one of the two out".to_owned(),
        _ => "TOML looks so: key = \"value\" · [table] · [[one of several]]".to_owned(),
    };
    let mut what = first.replace("expected usize", "expected a whole number").replace("a sequence", "a list");
    if let Some(at) = what.find("expected struct") {
        what.replace_range(at.., "expected a table");
    }
    (what.replace("wanted string or table", "this is no word").replace("type: map", "type: a table"), cure)
}

fn cure_of_unknown(unknown: &str, known: &[&str]) -> String {
    let most = (unknown.len() / 2).min(3);
    let near = known.iter().map(|known| (distance(unknown, known), known)).min();
    let place = PLACES.iter().find(|(_, keys)| keys.contains(&unknown));
    match (place, near) {
        (Some((place, _)), _) => format!("{unknown} belongs {place}"),
        (None, Some((away, known))) if away <= most => format!("did you mean {known}?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// How many letters to change, add or leave out (Levenshtein).
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (to, other) in two.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[to + 1];
            row[to + 1] = changed.min(row[to] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}
