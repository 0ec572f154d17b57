//! A proxy with its addresses taken: it serves, takes on another configuration, and ends in good order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::admin;
use crate::body::BoxError;
use crate::config::Config;
use crate::proxy::{Client, Proxy, Site};
use crate::server::{self, Bounds, Watcher};
use crate::tls::Certificate;

/// A proxy whose addresses are taken already.
pub struct Bound {
    proxy: Arc<Proxy>,
    public: TcpListener,
    admin: Option<TcpListener>,
    certificate: Option<Certificate>,
}

impl Bound {
    /// Takes the addresses that the configuration names.
    ///
    /// # Errors
    /// One of them cannot be had, or TLS cannot be set up.
    pub async fn new(config: Config) -> Result<Self, BoxError> {
        let certificate = config.tls.as_ref().map(Certificate::read).transpose()?;
        let public = server::bind(config.listen).await?;
        let admin = match config.admin.listen {
            Some(address) => Some(server::bind(address).await?),
            None => None,
        };
        Ok(Self { proxy: Arc::new(Proxy::new(config)?), public, admin, certificate })
    }

    /// The proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// Whether clients are served by TLS.
    pub fn is_secure(&self) -> bool {
        self.certificate.is_some()
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where the admin address is.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.local_addr().ok())
    }

    /// What takes on another configuration while this serves.
    pub fn reload(&self) -> Reload {
        Reload { proxy: Arc::clone(&self.proxy), begun: self.proxy.site(), certificate: self.certificate.clone() }
    }

    /// Serves until `stop` turns true; then no more connections are accepted, and what runs may end within
    /// `timeouts.drain`: requests, upgraded connections, refreshes.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> Result<CutOff, BoxError> {
        let tls = self.certificate.as_ref().map(Certificate::acceptor).transpose()?;
        let ticking = tokio::spawn(tick(Arc::clone(&self.proxy)));
        // The admin address answers until all is over, so that it can be seen that this is not ready any more.
        let (end, ends) = watch::channel(false);
        let admin = self.admin.map(|listener| {
            let proxy = Arc::clone(&self.proxy);
            tokio::spawn(admin::serve(listener, proxy, stop.clone(), ends))
        });
        let proxy = Arc::clone(&self.proxy);
        let service = move || {
            let client = Client::new(Arc::clone(&proxy));
            move |peer, request| client.door().serve(peer, request)
        };
        let counts = Arc::new(Counts(Arc::clone(&self.proxy)));
        let bounding = Arc::clone(&self.proxy);
        let bounds = move || Bounds { arena: bounding.cache.arena().cloned(), ..Bounds::of(&bounding.site().config) };
        let ended = server::serve(self.public, tls, bounds, counts, service, stop).await;
        let rest = || (self.proxy.stats.running.read(), self.proxy.cache.refreshing());
        while rest() != (0, 0) && Instant::now() < ended.until {
            sleep(Duration::from_millis(10)).await;
        }
        let (tunnels, refreshes) = rest();
        let _ = end.send(true);
        if let Some(admin) = admin {
            let _ = timeout(Duration::from_secs(1), admin).await;
        }
        ticking.abort();
        Ok(CutOff { connections: ended.cut_off + tunnels, refreshes })
    }
}

/// Counts what befalls clients' connections.
struct Counts(Arc<Proxy>);

impl Watcher for Counts {
    fn connections(&self, by: isize) {
        let connections = &self.0.stats.connections;
        match by {
            1 => connections.fetch_add(1, Ordering::Relaxed),
            _ => connections.fetch_sub(1, Ordering::Relaxed),
        };
    }

    fn unreadable(&self, client: IpAddr, status: StatusCode, why: &str) {
        self.0.stats.unreadable();
        if self.0.site().config.log.access {
            // What was asked, and of which host, nobody knows.
            tracing::info!(target: "everfresh::access", %client, status = status.as_u16(), outcome = "error", why);
        }
    }
}

/// What did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// Connections of clients.
    pub connections: usize,
    /// Refreshes behind readers' backs.
    pub refreshes: usize,
}

/// Takes on another configuration while a proxy serves.
pub struct Reload {
    proxy: Arc<Proxy>,
    /// What some of it is of, whatever is taken on.
    begun: Arc<Site>,
    certificate: Option<Certificate>,
}

impl Reload {
    /// Takes it on, certificate and key included; what is stored stays. Returns the keys that are not as they were at the
    /// start, and count from the next one on.
    ///
    /// # Errors
    /// The files of TLS are no good, or TLS to the origins cannot be set up; all is as it was.
    pub fn take_on(&self, mut config: Config) -> Result<Vec<&'static str>, BoxError> {
        let later = self.begun.config.counts_from_the_start(&config);
        config.listen = self.begun.config.listen;
        if let (Some(certificate), Some(tls)) = (&self.certificate, &config.tls) {
            certificate.replace(tls)?;
        }
        self.proxy.reload(config)?;
        Ok(later)
    }
}

async fn tick(proxy: Arc<Proxy>) {
    let mut each = tokio::time::interval(Duration::from_secs(1));
    loop {
        each.tick().await;
        proxy.stats.tick();
    }
}
