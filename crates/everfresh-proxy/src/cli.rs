//! The command line: what to run, and what the exit code says (0: as wished, 2: not).

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin;
use crate::body::BoxError;
use crate::config::{Config, LogFormat, OriginUrl, Secret, Size, Span};
use crate::demo;
use crate::log;
use crate::proxy::Proxy;
use crate::server::{self, Bounds};

/// Puts a cache in front of any HTTP server. Readers get the old answer at once while it fetches the new one.
#[derive(Debug, Parser)]
#[command(
    name = "everfresh",
    version,
    after_help = "\
Begin here:
  everfresh demo                                    see what readers wait, with and without
  everfresh serve --origin http://127.0.0.1:3000    a cache before your server, on 127.0.0.1:8080
  everfresh check everfresh.toml                    is the configuration right?

While it runs: http://127.0.0.1:9090/ is the live page, SIGHUP reads the configuration again, SIGTERM drains and ends."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an origin's answers, from the cache where that is allowed
    Serve(Box<Serve>),
    /// A slow, sometimes failing origin, the proxy before it, and load on it: watch it live
    Demo(Demo),
    /// Check a configuration file: says file, line and cure of the first thing that is wrong
    Check {
        /// The TOML file
        file: PathBuf,
    },
    /// Print completions for a shell, e.g. `everfresh completions bash > /etc/bash_completion.d/everfresh`
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Where answers come from
    #[arg(long, short, value_name = "URL", required_unless_present = "config", conflicts_with = "config")]
    origin: Option<OriginUrl>,
    /// A TOML file for all the rest: several origins, rules, limits, timeouts
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, short, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Metrics, purges and the live page [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// No admin address
    #[arg(long, conflicts_with = "admin")]
    no_admin: bool,
    /// Bytes that may be stored [default: 256 MiB]
    #[arg(long, value_name = "SIZE")]
    capacity: Option<Size>,
    /// Send the client's Host on instead of the origin's own name
    #[arg(long)]
    preserve_host: bool,
    /// How log lines look [default: human]
    #[arg(long, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// No line for each request
    #[arg(long)]
    no_access_log: bool,
}

#[derive(Debug, Args)]
struct Demo {
    /// End after so long instead of at Ctrl-C
    #[arg(long = "for", value_name = "TIME")]
    time: Option<Span>,
    /// Where the live page is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
}

impl Serve {
    fn config(&self) -> Result<Config, BoxError> {
        let mut config = match (&self.config, &self.origin) {
            (Some(file), _) => Config::read(file)?,
            (None, Some(origin)) => Config::of(origin.clone()),
            (None, None) => return Err("give --origin URL or --config FILE".into()),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.admin.listen = if self.no_admin { None } else { self.admin.or(config.admin.listen) };
        config.cache.capacity = self.capacity.unwrap_or(config.cache.capacity);
        if config.cache.max_body.get() > config.cache.capacity.get() {
            config.cache.max_body = config.cache.capacity;
        }
        config.log.format = self.log.unwrap_or(config.log.format);
        config.log.access &= !self.no_access_log;
        config.origins.iter_mut().for_each(|origin| origin.preserve_host |= self.preserve_host);
        if config.admin.token.is_none() {
            config.admin.token = std::env::var("EVERFRESH_TOKEN").ok().filter(|it| !it.is_empty()).map(Secret::new);
        }
        Ok(config)
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Check { file } => match Config::read(&file) {
            Ok(_) => tell(&format!("{}: right", file.display())),
            Err(wrong) => Err(wrong.into()),
        },
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "everfresh", &mut std::io::stdout());
            Ok(())
        }
        Command::Serve(serve) => in_runtime(self::serve(*serve)),
        Command::Demo(demo) => in_runtime(demo::run(demo.time.map(Span::get), demo.admin)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "everfresh: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints a line to standard output.
pub(crate) fn tell(line: &str) -> Result<(), BoxError> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn in_runtime(work: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// A proxy whose addresses are taken already.
pub struct Bound {
    proxy: Arc<Proxy>,
    public: TcpListener,
    admin: Option<TcpListener>,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Bound {
    /// Takes the addresses that the configuration names.
    ///
    /// # Errors
    /// One of them cannot be had, or TLS cannot be set up.
    pub async fn new(config: Config) -> Result<Self, BoxError> {
        let tls = config.tls.as_ref().map(server::acceptor).transpose()?;
        let public = server::bind(config.listen).await?;
        let admin = match config.admin.listen {
            Some(address) => Some(server::bind(address).await?),
            None => None,
        };
        Ok(Self { proxy: Arc::new(Proxy::new(config)?), public, admin, tls })
    }

    /// The proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
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

    /// Serves until `stop` turns true, then drains. Returns how many connections were cut off.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> usize {
        let site = self.proxy.site();
        let ticking = tokio::spawn(tick(Arc::clone(&self.proxy)));
        let admin = self.admin.map(|listener| {
            let proxy = Arc::clone(&self.proxy);
            tokio::spawn(admin::serve(listener, proxy, stop.clone()))
        });
        let proxy = Arc::clone(&self.proxy);
        let service = move |peer, request| Arc::clone(&proxy).serve(peer, request);
        let counted = Arc::clone(&self.proxy);
        let count = move |by: isize| {
            let connections = &counted.stats.connections;
            match by {
                1 => connections.fetch_add(1, Ordering::Relaxed),
                _ => connections.fetch_sub(1, Ordering::Relaxed),
            };
        };
        let left = server::serve(self.public, self.tls, Bounds::of(&site.config), Arc::new(count), service, stop).await;
        if let Some(admin) = admin {
            admin.abort();
        }
        ticking.abort();
        left
    }
}

async fn tick(proxy: Arc<Proxy>) {
    let mut each = tokio::time::interval(Duration::from_secs(1));
    loop {
        each.tick().await;
        proxy.stats.tick();
    }
}

async fn serve(arguments: Serve) -> Result<(), BoxError> {
    let config = arguments.config()?;
    log::begin(config.log.format);
    // Before anybody can know that this process is there: a signal that comes too early would end it.
    let signals = Signals::new()?;
    let bound = Bound::new(config).await?;
    let proxy = Arc::clone(bound.proxy());
    for origin in &proxy.site().config.origins {
        tracing::info!("origin {}", origin.url);
    }
    tracing::info!("serving on http://{}", bound.address()?);
    if let Some(admin) = bound.admin() {
        tracing::info!("live page on http://{admin}/");
    }
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(bound.serve(stopped));
    signals.until_the_end(&proxy, &arguments).await;
    tracing::info!("no more connections; what runs may end");
    let _ = stop.send(true);
    let left = serving.await?;
    if left > 0 {
        tracing::warn!("cut off {left} connections that did not end in time");
    }
    Ok(())
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    again: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            again: signal(SignalKind::hangup())?,
        })
    }

    async fn until_the_end(mut self, proxy: &Proxy, arguments: &Serve) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.again.recv() => match arguments.config().and_then(|config| proxy.reload(config)) {
                    Ok(()) => tracing::info!("configuration read again; the cache is as it was"),
                    Err(error) => tracing::error!("the old configuration holds on: {error}"),
                },
            }
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn until_the_end(self, _proxy: &Proxy, _arguments: &Serve) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
