//! Envoy as a child: one for each Gateway, started again when it dies, stopped with care.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{admin::Admin, cli::BecomeEnvoyArgs, failure::Failure, state};

/// The first wait before a dead Envoy is started again; doubled at each death, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait before a dead Envoy is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// An Envoy that lived this long starts the waits anew.
const STEADY: Duration = Duration::from_secs(30);

/// How long requests may take to end once their Envoy is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long Envoy may take to end after SIGTERM.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// The admin interface's socket in an Envoy's folder.
const ADMIN: &str = "admin.sock";

/// The longest path of a unix socket, in bytes (`sun_path` without its end).
const LONGEST_SOCKET: usize = 107;

/// What every Envoy of this run has in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// Worker threads.
    pub(crate) concurrency: u16,
    /// The folder that holds a folder for each Envoy.
    pub(crate) run_dir: PathBuf,
}

/// What happened to an Envoy.
#[derive(Debug)]
pub(crate) enum Event {
    /// It runs.
    Started {
        /// `namespace/name` of its Gateway.
        gateway: String,
        /// Its process id.
        pid: u32,
    },
    /// It died, or could not be started, and is started again after the wait.
    Died {
        /// `namespace/name` of its Gateway.
        gateway: String,
        /// How it ended.
        how: String,
        /// Its log.
        log: PathBuf,
        /// The wait.
        wait: Duration,
    },
}

/// The Envoys of this run.
#[derive(Debug)]
pub(crate) struct Fleet {
    settings: Settings,
    events: mpsc::UnboundedSender<Event>,
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
}

/// What an Envoy is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    /// Finish what was begun, then end.
    Stop,
    /// End now.
    Kill,
}

impl Fleet {
    pub(crate) fn new(settings: Settings) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let fleet = Self {
            settings,
            events,
            members: BTreeMap::new(),
        };
        (fleet, receiver)
    }

    /// The admin interface of a Gateway's Envoy.
    pub(crate) fn admin(&self, gateway: &str) -> Admin {
        Admin::Pipe(self.folder(gateway).join(ADMIN))
    }

    /// The folder of a Gateway's Envoy.
    pub(crate) fn folder(&self, gateway: &str) -> PathBuf {
        self.settings.run_dir.join(gateway.replace('/', "."))
    }

    /// Starts the Envoys of new Gateways with their bootstraps and stops those of Gateways that are gone.
    ///
    /// # Errors
    ///
    /// A Gateway's folder or bootstrap cannot be written.
    pub(crate) fn reconcile(&mut self, gateways: &BTreeMap<String, String>) -> io::Result<()> {
        for (gateway, member) in &self.members {
            if !gateways.contains_key(gateway) {
                let _ = member.order.send(Order::Stop);
            }
        }
        for (gateway, bootstrap) in gateways {
            let lives = self
                .members
                .get(gateway)
                .is_some_and(|member| *member.order.borrow() == Order::Run);
            if lives {
                continue;
            }
            let folder = self.folder(gateway);
            if folder.join(ADMIN).as_os_str().len() > LONGEST_SOCKET {
                let text = format!(
                    "{}: too long for the name of a unix socket",
                    folder.join(ADMIN).display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            state::own_folder(&folder)?;
            state::write_private(&folder.join("bootstrap.yaml"), bootstrap.as_bytes())?;
            // One that is still draining for a Gateway of the same name is waited for: they share ports and files.
            let before = self.members.remove(gateway).map(|member| member.task);
            let (order, orders) = watch::channel(Order::Run);
            let keeper = Keeper {
                gateway: gateway.clone(),
                folder,
                settings: self.settings.clone(),
                events: self.events.clone(),
                orders,
            };
            let task = tokio::spawn(async move {
                if let Some(before) = before {
                    let _ = before.await;
                }
                keeper.keep().await;
            });
            self.members.insert(gateway.clone(), Member { order, task });
        }
        Ok(())
    }

    /// Stops every Envoy, or kills them if told so.
    pub(crate) fn stop(&self, now: bool) {
        for member in self.members.values() {
            let _ = member.order.send(if now { Order::Kill } else { Order::Stop });
        }
    }

    /// Waits until every Envoy has ended. Cancel safe.
    pub(crate) async fn ended(&mut self) {
        for member in self.members.values_mut() {
            if !member.task.is_finished() {
                let _ = (&mut member.task).await;
            }
        }
    }
}

/// Keeps one Envoy alive.
struct Keeper {
    gateway: String,
    folder: PathBuf,
    settings: Settings,
    events: mpsc::UnboundedSender<Event>,
    orders: watch::Receiver<Order>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut wait = FIRST_WAIT;
        while *self.orders.borrow() == Order::Run {
            let started = Instant::now();
            let how = match self.start() {
                Ok(mut child) => {
                    let pid = child.id().unwrap_or_default();
                    self.tell(Event::Started {
                        gateway: self.gateway.clone(),
                        pid,
                    });
                    let status = tokio::select! {
                        status = child.wait() => Some(status),
                        () = told(&mut self.orders, |order| order != Order::Run) => None,
                    };
                    let Some(status) = status else {
                        self.end(&mut child).await;
                        return;
                    };
                    ended(status)
                }
                Err(error) => error.to_string(),
            };
            if started.elapsed() >= STEADY {
                wait = FIRST_WAIT;
            }
            self.tell(Event::Died {
                gateway: self.gateway.clone(),
                how,
                log: self.folder.join("envoy.log"),
                wait,
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = told(&mut self.orders, |order| order != Order::Run) => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens once the run is ending.
        let _ = self.events.send(event);
    }

    fn start(&self) -> io::Result<Child> {
        let log = |name| {
            let mut options = fs::OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.create(true).append(true).open(self.folder.join(name))
        };
        // A socket that a killed Envoy left behind would keep the next one from binding.
        let _ = fs::remove_file(self.folder.join(ADMIN));
        Command::new("/proc/self/exe")
            .arg("become-envoy")
            .arg(format!("--parent={}", std::process::id()))
            .arg("--")
            .arg(&self.settings.binary)
            .arg("--config-path")
            .arg(self.folder.join("bootstrap.yaml"))
            .args(["--concurrency", &self.settings.concurrency.to_string()])
            // Nothing here restarts hot, and shared memory would outlive a kill.
            .arg("--disable-hot-restart")
            // Whoever asks the access log why a request was refused asks at once; Envoy's default is ten seconds.
            .args(["--file-flush-interval-msec", "200"])
            // At `warning` Envoy logs the whole of a resource that it rejects, with the secrets in it; the controller
            // prints the reason without them.
            .args([
                "--log-level",
                "info",
                "--component-log-level",
                "config:error,upstream:error",
            ])
            .stdin(Stdio::null())
            .stdout(log("access.log")?)
            .stderr(log("envoy.log")?)
            // Ctrl-C in a terminal is for the controller: it lets requests end first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Lets requests end, then Envoy.
    async fn end(&mut self, child: &mut Child) {
        let admin = Admin::Pipe(self.folder.join(ADMIN));
        tokio::select! {
            () = drain(&admin) => {}
            _ = child.wait() => return,
            () = told(&mut self.orders, |order| order == Order::Kill) => {}
        }
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(LAST_WAIT, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

/// Waits for an order; one that can no longer come counts as given.
async fn told(orders: &mut watch::Receiver<Order>, awaited: impl Fn(Order) -> bool) {
    let _ = orders.wait_for(|order| awaited(*order)).await;
}

/// Tells clients to go elsewhere and waits until no request is left, five seconds at most.
async fn drain(admin: &Admin) {
    let _ = admin.post("/healthcheck/fail").await;
    if admin.post("/drain_listeners?graceful&skip_exit").await.is_err() {
        return;
    }
    let end = Instant::now() + GRACE;
    while Instant::now() < end {
        match admin.get("/stats?filter=^http\\..*downstream_rq_active$").await {
            Ok((200, text)) if active(&text) > 0 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return,
        }
    }
}

/// Requests under way, those to the admin interface itself not counted.
fn active(stats: &str) -> u64 {
    stats
        .lines()
        .filter(|line| !line.starts_with("http.admin."))
        .filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok())
        .sum()
}

fn ended(status: io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (_, Some(signal)) => format!("was killed by signal {signal}"),
            _ => "ended".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

/// Replaces this program by Envoy, which the kernel ends when the controller's main thread does: an Envoy without its
/// controller would go on with policies that nobody can change any more.
pub(crate) fn become_envoy(args: &BecomeEnvoyArgs) -> Failure {
    let failed = |error: io::Error| Failure::new(format!("envoy: {error}"), "give --envoy the path of an Envoy binary");
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        return failed(error.into());
    }
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != Some(args.parent) {
        return Failure::new("the controller has ended", "");
    }
    let Some((binary, arguments)) = args.command.split_first() else {
        return Failure::new("no command", "");
    };
    failed(std::process::Command::new(binary).args(arguments).exec())
}

/// Finds the Envoy to start: the given one, `$PORTCULLIS_ENVOY`, or `envoy` in PATH.
///
/// # Errors
///
/// There is none, or it may not be executed.
pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let named = given.map(Path::to_path_buf).or_else(|| {
        std::env::var_os("PORTCULLIS_ENVOY")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    });
    let fix = "give --envoy BIN, or --no-envoy to serve Envoys of your own";
    if let Some(path) = named {
        let path = std::path::absolute(&path).unwrap_or(path);
        return if executable(&path) {
            Ok(path)
        } else {
            Err(Failure::new(format!("{}: no executable file", path.display()), fix))
        };
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .map(|folder| folder.join("envoy"))
        .find(|path| executable(path))
        .ok_or_else(|| Failure::new("no envoy in PATH", fix))
}

fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_under_way_are_summed_without_the_one_that_asks() {
        let stats = "4f\r\nhttp.admin.downstream_rq_active: 1\nhttp.a.downstream_rq_active: 2\nhttp.b.downstream_rq_active: 0\n";
        assert_eq!(active(stats), 2);
        assert_eq!(active(""), 0);
    }

    #[test]
    fn an_envoy_that_is_not_there_is_named_with_the_fix() {
        let failure = find(Some(Path::new("/nowhere/envoy"))).unwrap_err().to_string();
        assert_eq!(
            failure,
            "/nowhere/envoy: no executable file; give --envoy BIN, or --no-envoy to serve Envoys of your own"
        );
    }
}
