//! The command line: what to run, and what the exit code says (0: as wished, 2: not).

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::sync::watch;

use crate::body::BoxError;
use crate::bound::{Bound, CutOff, Reload};
use crate::config::{self, Config, LogFormat, OriginUrl, Secret, Size, Span, Wrong};
use crate::demo;
use crate::files;
use crate::log::{self, tell};
use crate::tls::{Certificate, Unfit};

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
    /// Print completions for a shell
    ///
    /// For bash: everfresh completions bash > /etc/bash_completion.d/everfresh
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("from").required(true),
    after_help = "\
Flags win over the file. From the environment:
  EVERFRESH_TOKEN    what purges must carry, where the file has no admin.token
  RUST_LOG           how much is logged: info, or everfresh=debug for more
  SSL_CERT_FILE      who may sign the certificates of origins, in PEM, in place of the system's authorities"
)]
struct Serve {
    /// Where answers come from
    #[arg(long, short, value_name = "URL", group = "from")]
    origin: Option<OriginUrl>,
    /// A TOML file for all the rest: several origins, rules, limits, timeouts
    #[arg(long, short, value_name = "FILE", group = "from")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, short, value_name = "ADDR", value_parser = config::address)]
    listen: Option<SocketAddr>,
    /// Metrics, purges and the live page [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR", value_parser = config::address)]
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
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = config::address)]
    admin: SocketAddr,
}

impl Serve {
    fn config(&self) -> Result<Config, BoxError> {
        match (&self.config, &self.origin) {
            (Some(file), _) => {
                let config = Config::read_with(file, |config| self.win_over(config))?;
                check_files(file, &config)?;
                Ok(config)
            }
            (None, Some(origin)) => {
                let mut config = Config::of(origin.clone());
                self.win_over(&mut config);
                config.check()?;
                Ok(config)
            }
            // The command line requires one of the two.
            (None, None) => Err("give --origin URL or --config FILE".into()),
        }
    }

    fn win_over(&self, config: &mut Config) {
        config.listen = self.listen.unwrap_or(config.listen);
        config.admin.listen = if self.no_admin { None } else { self.admin.or(config.admin.listen) };
        if let Some(capacity) = self.capacity {
            config.cache.capacity = capacity;
            config.cache.bound_max_body();
        }
        config.log.format = self.log.unwrap_or(config.log.format);
        config.log.access &= !self.no_access_log;
        config.origins.iter_mut().for_each(|origin| origin.preserve_host |= self.preserve_host);
        if config.admin.token.is_none() {
            let token = std::env::var_os("EVERFRESH_TOKEN").filter(|it| !it.is_empty());
            config.admin.token = token.map(|it| Secret::new(it.to_string_lossy()));
        }
    }
}

/// Whether what a configuration names can be read, and is what it should be.
fn check_files(file: &Path, config: &Config) -> Result<(), Wrong> {
    let Some(tls) = &config.tls else { return Ok(()) };
    match Certificate::read(tls) {
        Ok(_) => Ok(()),
        Err(Unfit { key, what, cure }) => Err(Wrong::later(file, "tls", key, what, cure)),
    }
}

/// Whether a file says what can be served: its values, and the files that it names.
fn check(file: &Path) -> Result<(), BoxError> {
    check_files(file, &Config::read(file)?)?;
    Ok(tell(&format!("{}: right", file.display()))?)
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Check { file } => check(&file),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "everfresh", &mut script);
            std::io::stdout().write_all(&script).map_err(Into::into)
        }
        Command::Serve(serve) => in_runtime(self::serve(*serve)),
        Command::Demo(demo) => in_runtime(demo::run(demo.time.map(Span::get), demo.admin)),
    };
    log::end();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "everfresh: {error}");
            ExitCode::from(2)
        }
    }
}

fn in_runtime(work: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(arguments: Serve) -> Result<(), BoxError> {
    let config = arguments.config()?;
    log::begin(config.log.format);
    // Before anybody can know that this process is there: a signal that comes too early would end it.
    let mut signals = Signals::new()?;
    let files = files::open_as_many_as_may_be();
    let connections = config.limits.connections;
    if let Some(files) = files.filter(|&files| files < files::needed(connections)) {
        tracing::warn!(
            "this process may open {files} files; {connections} clients (limits.connections), of whom each waits for an \
             origin, need {}: allow more (ulimit -n, LimitNOFILE), or lower limits.connections",
            files::needed(connections),
        );
    }
    let bound = Bound::new(config).await?;
    for origin in &bound.proxy().site().config.origins {
        tracing::info!("origin {}", origin.url);
    }
    let scheme = if bound.is_secure() { "https" } else { "http" };
    tracing::info!("serving on {scheme}://{}", bound.address()?);
    if let Some(admin) = bound.admin() {
        tracing::info!("live page on http://{admin}/");
        if !admin.ip().is_loopback() {
            tracing::warn!(
                "whoever reaches {admin} can read the live page, /stats and /metrics; if that is not meant, let \
                 admin.listen be an address of 127.0.0.1"
            );
        }
    }
    let (stop, stopped) = watch::channel(false);
    let reload = bound.reload();
    let serving = tokio::spawn(bound.serve(stopped));
    signals.until_the_end(&reload, &arguments).await;
    tracing::info!("no more connections; what runs may end");
    let _ = stop.send(true);
    let ended = tokio::select! {
        ended = serving => ended,
        // Whoever says so twice does not want to wait.
        () = signals.once_more() => {
            tracing::warn!("told again to end: what still runs is cut off");
            return Ok(());
        }
    };
    let CutOff { connections, refreshes } = ended??;
    if connections + refreshes > 0 {
        tracing::warn!("cut off what did not end in time: {connections} connections, {refreshes} refreshes");
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

    async fn once_more(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn until_the_end(&mut self, reload: &Reload, arguments: &Serve) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.again.recv() => match arguments.config().and_then(|config| reload.take_on(config)) {
                    Ok(later) if later.is_empty() => {
                        tracing::info!("configuration read again; the cache is as it was");
                    }
                    Ok(later) => tracing::warn!(
                        "configuration read again; the cache is as it was. What changed in {} counts from the next \
                         start on",
                        later.join(", "),
                    ),
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

    async fn until_the_end(&mut self, _reload: &Reload, _arguments: &Serve) {
        self.once_more().await;
    }

    async fn once_more(&mut self) {
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
