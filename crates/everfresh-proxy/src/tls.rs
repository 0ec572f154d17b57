//! The certificate that clients are shown; it can be replaced while connections run.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs, io};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::body::BoxError;
use crate::config::Tls;

/// What new connections are shown.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Shown>);

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificate {
    /// Reads the files of a configuration.
    ///
    /// # Errors
    /// One cannot be read, or holds no certificate or key, or they do not belong together: which, and the cure.
    pub fn read(tls: &Tls) -> Result<Self, Unfit> {
        Ok(Self(Arc::new(Shown(RwLock::new(Arc::new(pair(tls)?))))))
    }

    /// Reads them again, for connections to come.
    ///
    /// # Errors
    /// As [`read`](Self::read); the old one stays.
    pub fn replace(&self, tls: &Tls) -> Result<(), Unfit> {
        let new = Arc::new(pair(tls)?);
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What speaks TLS with clients, HTTP/2 where they can.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn acceptor(&self) -> Result<TlsAcceptor, BoxError> {
        let resolver = Arc::clone(&self.0);
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Agrees on TLS with a client; one that speaks HTTP in the clear is told so in its own language.
///
/// # Errors
/// The connection broke, or the client speaks no TLS that is understood here.
pub async fn agree(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    // TLS begins with the byte 22; methods, and the preface of HTTP/2, with a capital letter.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        let _ = refuse_plain(stream).await;
        return Err(io::Error::other(Plain));
    }
    acceptor.accept(stream).await
}

/// HTTP in the clear came to the port of TLS, and was told so.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl fmt::Display for Plain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("plain HTTP came in the place of TLS")
    }
}

impl std::error::Error for Plain {}

const PLAIN: &str = "400 Bad Request\nthis port speaks TLS: write https:// in the place of http://\n";

async fn refuse_plain(mut stream: TcpStream) -> io::Result<()> {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n";
    let answer = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{PLAIN}", PLAIN.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What was sent and never read would make the system reset the connection, and the answer with it (RFC 9112 §9.6).
    let mut rest = [0; 1024];
    let heard = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(Duration::from_secs(2), heard).await;
    Ok(())
}

/// Why the files of TLS cannot be served with.
#[derive(Clone, Debug)]
pub struct Unfit {
    /// The key in `[tls]` that names the file.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// What it should be.
    pub cure: &'static str,
}

impl fmt::Display for Unfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}\n  cure: {}", self.what, self.cure)
    }
}

impl std::error::Error for Unfit {}

fn pair(tls: &Tls) -> Result<CertifiedKey, Unfit> {
    let cert = |what: &dyn fmt::Display| Unfit {
        key: "cert",
        what: format!("tls.cert: {}: {what}", tls.cert.display()),
        cure: "tls.cert is a PEM file with the server's certificate first, then those that signed it",
    };
    let key = |what: &dyn fmt::Display| Unfit {
        key: "key",
        what: format!("tls.key: {}: {what}", tls.key.display()),
        cure: "tls.key is a PEM file with the private key of the first certificate in tls.cert",
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect).map_err(|error| cert(&error))?;
    if chain.is_empty() {
        return Err(cert(&"no certificate is in it"));
    }
    let private = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| match error {
        pem::Error::Io(_) => key(&error),
        _ if is_encrypted(&tls.key) => Unfit {
            cure: "nobody could be asked for it: write the key without one, by openssl pkey -in key.pem -out plain.pem",
            ..key(&"the private key is behind a passphrase")
        },
        pem::Error::NoItemsFound => key(&"no private key is in it"),
        other => key(&other),
    })?;
    if ring::sign::any_supported_type(&private).is_err() {
        return Err(Unfit {
            cure: "use a key of ECDSA (P-256 or P-384), Ed25519, or RSA of 2048 bits or more, and a certificate for it",
            ..key(&"no key of a kind that TLS is spoken with here")
        });
    }
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => key(&format!("not the key of the certificate in {}", tls.cert.display())),
        other => cert(&other),
    })
}

/// Whether a PEM file says that what is in it cannot be read without a passphrase, in the newer way or in OpenSSL's old one.
fn is_encrypted(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with("-----BEGIN ENCRYPTED ") || line.starts_with("Proc-Type: 4,ENCRYPTED"))
    })
}
