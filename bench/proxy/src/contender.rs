//! One proxy as a process: configured from its file in this folder, started, measured by what the kernel tells, ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A proxy that can be measured here.
#[derive(Clone, Debug)]
pub struct Contender {
    /// `everfresh`, `nginx` or `varnish`.
    pub name: &'static str,
    /// As it says itself.
    pub version: String,
    program: PathBuf,
}

/// A contender's process, ended when dropped.
pub struct Running {
    /// Whose it is.
    pub name: &'static str,
    /// Where it serves.
    pub address: SocketAddr,
    child: Child,
    home: PathBuf,
}

/// What the kernel says is resident, shared pages divided by those who share them, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The process's own.
    pub anonymous: u64,
    /// Of files and shared memory: programs, libraries, nginx's index of keys, varnish's log.
    pub mapped: u64,
}

/// Those that are installed; says which are not.
pub fn found(everfresh: &Path, only: &[String]) -> Vec<Contender> {
    let known = [
        (
            "everfresh",
            everfresh.to_owned(),
            "--version",
            "build it with `cargo build --profile dist -p everfresh-proxy`",
        ),
        ("nginx", "nginx".into(), "-v", "install it with `apt-get install nginx-light`"),
        ("varnish", "varnishd".into(), "-V", "install it with `apt-get install varnish`"),
    ];
    let wanted = known.into_iter().filter(|(name, ..)| only.is_empty() || only.iter().any(|only| only == name));
    wanted
        .filter_map(|(name, program, flag, cure)| match version(&program, flag) {
            Some(version) => Some(Contender { name, version, program }),
            None => {
                println!("{name} is left out: {} does not run here; {cure}", program.display());
                None
            }
        })
        .collect()
}

fn version(program: &Path, flag: &str) -> Option<String> {
    // Debian keeps servers where only root's PATH looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).arg(flag).env("PATH", path).output().ok()?;
    let told = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&told).lines().next()?.trim().to_owned();
    Some(line.trim_start_matches("nginx version: ").split(" revision").next()?.trim_start_matches("varnishd (").into())
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

impl Contender {
    /// Starts it in front of an origin with so much room, and waits until it listens.
    pub fn start(&self, origin: SocketAddr, capacity: u64) -> Result<Running, String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.name);
        let (port, admin) = (free_port()?, free_port()?);
        let home = std::env::temp_dir().join(format!("everfresh-bench-{}-{port}", std::process::id()));
        fs::create_dir_all(&home).map_err(told)?;
        let listen = format!("127.0.0.1:{port}");
        let fill = |text: &str| {
            text.replace("@LISTEN@", &listen)
                .replace("@ADMIN@", &format!("127.0.0.1:{admin}"))
                .replace("@ORIGIN@", &origin.to_string())
                .replace("@ORIGIN_HOST@", &origin.ip().to_string())
                .replace("@ORIGIN_PORT@", &origin.port().to_string())
                .replace("@CAPACITY@", &format!("{} MiB", capacity >> 20))
                .replace("@CAPACITY_MIB@", &(capacity >> 20).to_string())
                .replace("@DIR@", &home.display().to_string())
        };
        let (file, text) = match self.name {
            "everfresh" => ("everfresh.toml", include_str!("../everfresh.toml")),
            "nginx" => ("nginx.conf", include_str!("../nginx.conf")),
            _ => ("varnish.vcl", include_str!("../varnish.vcl")),
        };
        let file = home.join(file);
        fs::write(&file, fill(text)).map_err(told)?;
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let log = fs::File::create(home.join("output")).map_err(told)?;
        let mut command = Command::new(&self.program);
        command.env("PATH", path).stdin(Stdio::null()).stderr(log.try_clone().map_err(told)?).stdout(log);
        match self.name {
            "everfresh" => command.arg("serve").arg("--config").arg(&file),
            "nginx" => command.arg("-p").arg(&home).arg("-e").arg(home.join("error.log")).arg("-c").arg(&file),
            _ => command
                .args(["-F", "-j", "none", "-a", &listen, "-s", &format!("malloc,{}m", capacity >> 20)])
                .args(["-p", "thread_pools=2", "-p", "thread_pool_min=100", "-p", "thread_pool_max=1000"])
                .arg("-n")
                .arg(home.join("varnish"))
                .arg("-f")
                .arg(&file),
        };
        let child = command.spawn().map_err(told)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Running { name: self.name, address, child, home };
        for _ in 0..200 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(running);
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                let output = fs::read_to_string(running.home.join("output")).unwrap_or_default();
                return Err(format!("{} ended at once ({status}): {output}", self.name));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{} does not listen after 10 s", self.name))
    }
}

impl Running {
    /// Seconds of processor time that it and its children have used.
    pub fn cpu(&self) -> f64 {
        // The kernel counts in hundredths of a second, whatever its own tick.
        self.tree().iter().filter_map(|pid| stat(*pid)).map(|(_, ticks)| ticks).sum::<u64>() as f64 / 100.0
    }

    /// What it and its children hold.
    pub fn memory(&self) -> Memory {
        let mut all = Memory::default();
        for pid in self.tree() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let of = |name: &str| -> u64 {
                let line = text.lines().find(|line| line.split(':').next() == Some(name));
                line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or_default() * 1024
            };
            all.anonymous += of("Pss_Anon");
            all.mapped += of("Pss_File") + of("Pss_Shmem");
        }
        all
    }

    fn tree(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| Some((pid, stat(pid)?.0)))
            .collect();
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        tree
    }
}

/// Parent and ticks of a process: its own and those of children that ended.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only SIGTERM lets the master end its workers.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}
