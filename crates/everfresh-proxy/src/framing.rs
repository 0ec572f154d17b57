//! What of a request's framing its parser does not tell: a `Content-Length` that it drops beside a `Transfer-Encoding`
//! (RFC 9112 §6.1), which is how requests are smuggled.

const CODING: &[u8] = b"transfer-encoding";
const LENGTH: &[u8] = b"content-length";
/// As much of each line as tells the longer of the two names from all others.
const KEPT: usize = CODING.len() + 1;

/// Reads over the bytes of a head as they come, in whatever pieces.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// How the line begins that has not ended yet.
    line: [u8; KEPT],
    kept: usize,
    /// A line that is not empty has come.
    begun: bool,
    coding: bool,
    length: bool,
    over: bool,
}

impl Framing {
    /// Heeds what came; whether this ended a head that has both fields. What comes behind the end is not looked at, for
    /// it is a body.
    pub(crate) fn heed(&mut self, mut bytes: &[u8]) -> bool {
        while !self.over && !bytes.is_empty() {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let rest = &bytes[..end.unwrap_or(bytes.len())];
            let more = rest.len().min(KEPT - self.kept);
            self.line[self.kept..self.kept + more].copy_from_slice(&rest[..more]);
            self.kept += more;
            let Some(end) = end else { return false };
            bytes = &bytes[end + 1..];
            let line = &self.line[..std::mem::take(&mut self.kept)];
            match line {
                [] | [b'\r'] => self.over = self.begun,
                [b't' | b'T', ..] => self.coding |= is_named(line, CODING),
                [b'c' | b'C', ..] => self.length |= is_named(line, LENGTH),
                _ => {}
            }
            self.begun |= !matches!(line, [] | [b'\r']);
        }
        self.over && self.coding && self.length
    }
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len()
        && line[..name.len()].eq_ignore_ascii_case(name)
        && matches!(line[name.len()], b':' | b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::Framing;

    #[test]
    fn both_fields_are_seen_in_whatever_pieces_they_come() {
        for (head, both) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nhost: a\r\nTRANSFER-encoding: chunked\r\n\r\n", true),
            ("\r\n\r\nPOST / HTTP/1.1\ntransfer-encoding: chunked\ncontent-length: 5\n\n", true),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nhost: a\r\n\r\n", false),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-content-length: 5\r\ncontent-lengthy: 5\r\n\r\n",
                false,
            ),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\ncontent-length: 5\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nx: transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n", false),
        ] {
            for piece in 1..head.len() {
                let mut framing = Framing::default();
                let seen = head.as_bytes().chunks(piece).any(|bytes| framing.heed(bytes));
                assert_eq!(seen, both, "{head:?} in pieces of {piece}");
            }
        }
    }
}
