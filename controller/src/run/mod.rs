//! `portcullis run`: manifests in, Envoys served, one line for each listener and policy.

mod contention;
mod control;
mod credentials;
mod debounce;
mod enforced;
mod envoy;
mod fence;
mod fetch;
mod folder;
mod health;
mod keys;
mod kubernetes;
mod last_good;
mod metrics;
mod namesake;
mod objects;
mod origin;
mod publication;
mod replicas;
mod report;
mod statuses;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_gateway::Configuration;
use portcullis_manifest::Diagnostic;
use portcullis_xds::{ServerTls, Socket, TlsListener};
use tokio::sync::watch::Receiver;

pub(crate) use self::envoy::become_envoy;
use self::{
    control::{Control, Filter},
    credentials::Keeper,
    envoy::Fleet,
    folder::{Folder, Refreshed},
    health::Health,
    last_good::Why,
    metrics::Metrics,
    origin::{Changes, Origin},
    watch::Watch,
};
use crate::{
    Answer, answers, check,
    cli::RunArgs,
    failure::Failure,
    load::{Evaluation, Settings},
    ports,
    print::{self, Style, Tone},
    state, wasm,
};

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(args: &RunArgs, style: &Style) -> Result<Answer, Failure> {
    // What the server of the socket cannot tell a proxy.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // The client of the API server prints answers that it cannot read, Secrets as well; what matters of its troubles is told
        // by who asked.
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            "warn,kube_client=off,kube_runtime=off",
        ))
        .with_target(false)
        .without_time()
        .init();
    if args.kubernetes {
        let wasm = wasm::locate(args.filter.wasm.as_deref())?;
        let filter = Filter {
            documents: wasm::verify(&wasm)?.documents,
            path: wasm,
        };
        return runtime()?.block_on(kubernetes::run(args, filter, style));
    }
    let source = check::source(&args.manifests)?;
    // Before anything else is looked for: a mistyped path is what most likely is wrong.
    let (_, missing) = source.files();
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        return Err(Failure::new(missing.join("\nportcullis: "), ""));
    }
    let wasm = wasm::locate(args.filter.wasm.as_deref())?;
    let filter = Filter {
        documents: wasm::verify(&wasm)?.documents,
        path: wasm,
    };
    let binary = if args.no_envoy {
        None
    } else {
        Some(envoy::find(args.envoy.as_deref())?)
    };
    let state_dir = state::folder(args.filter.state_dir.as_deref())?;
    let salt_key = state::salt_key(&state_dir)?;
    let settings = Settings::new(&args.manifests, filter.path.display().to_string(), salt_key);
    let settings = if args.no_envoy {
        settings
    } else {
        settings.here(&args.manifests)?
    };

    let mut folder = Folder::new(source, Arc::new(settings));
    let Some(evaluation) = first(&mut folder, style)? else {
        return Ok(Answer::No);
    };
    let run_dir = if args.no_envoy {
        None
    } else {
        Some(RunDir::new(args.run_dir.as_deref())?)
    };
    let occupied = if run_dir.is_some() {
        let all = &evaluation.translation.configurations;
        free_ports(&contention::modest(all, &BTreeMap::new(), &BTreeSet::new()).0)?
    } else {
        BTreeSet::new()
    };
    let socket = args.filter.xds_socket.clone().unwrap_or_else(|| match &run_dir {
        Some(run_dir) => run_dir.path.join("xds.sock"),
        None => state_dir.join("xds.sock"),
    });

    runtime()?.block_on(async {
        let socket = bind(&socket)?;
        let fleet = binary.zip(run_dir.as_ref()).map(|(binary, run_dir)| {
            Fleet::new(envoy::Settings {
                binary,
                concurrency: args.concurrency.unwrap_or_else(processors),
                run_dir: run_dir.path.clone(),
            })
        });
        let memory = state_dir.join(state::QUARANTINE_FILE);
        let (watch, trouble) = Watch::new(folder.watched());
        if let Some(trouble) = trouble {
            let text = format!("portcullis: no file events ({trouble}); looking at the files instead");
            print::note(&style.paint_err(Tone::Warning, &text));
        }
        let changes = Changes::Files(Box::new(watch));
        let origin = Origin::Folder(Box::new(folder));
        let health = Health::new(Metrics::new());
        let _serving = match args.health_address {
            Some(address) => Some(health.serve(address).await?),
            None => None,
        };
        let mut control = Control::new((origin, changes), evaluation, filter, memory, health, style);
        if let Some(fleet) = fleet {
            control = control.with_fleet(fleet, occupied);
        }
        if let Some(address) = args.xds_address {
            let (kept, shown) = credentials::Folder::open(&state_dir, answers::seconds())?;
            control = control.with_tls(listen(address, shown).await?, Keeper::Folder(Box::new(kept)));
        }
        control.run(socket).await
    })
}

/// Listens on TCP.
async fn listen(address: SocketAddr, shown: Receiver<ServerTls>) -> Result<TlsListener, Failure> {
    let listener = TlsListener::bind(address, shown).await;
    listener.map_err(|error| Failure::new(format!("--xds-address {address}: {error}"), "give another one"))
}

/// One thread: children end with the thread that started them, and nothing here computes for long but the evaluation,
/// which has threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}"), ""))
}

/// Reads and evaluates for the first time. Nothing is served if a file cannot be read or taken.
fn first(folder: &mut Folder, style: &Style) -> Result<Option<Evaluation>, Failure> {
    let Refreshed {
        evaluation, refused, ..
    } = folder.refresh();
    let unreadable: Vec<_> = folder
        .held()
        .iter()
        .filter_map(|held| match &held.why {
            Why::Unreadable(reason) => Some(format!("{}: {reason}", held.name)),
            Why::Empty | Why::Refused => None,
        })
        .collect();
    if !unreadable.is_empty() {
        return Err(Failure::new(unreadable.join("\nportcullis: "), ""));
    }
    let found = evaluation.iter().flat_map(|evaluation| &evaluation.diagnostics);
    tell(found.chain(&refused), style);
    // There is no former text to hold on to, and what is missing may be the policy of what is there.
    if !folder.held().is_empty() {
        let files: Vec<_> = folder.held().iter().map(|held| held.name.as_str()).collect();
        let text = format!("portcullis: not started: mend {} first", files.join(", "));
        print::note(&style.paint_err(Tone::Bad, &text));
        return Ok(None);
    }
    evaluation.map(Some).ok_or_else(check::no_manifest)
}

/// Prints diagnostics on stderr.
fn tell<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>, style: &Style) {
    for diagnostic in diagnostics {
        print::note(&check::line(diagnostic, |tone, text| style.paint_err(tone, text)));
    }
}

fn bind(path: &Path) -> Result<Socket, Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            format!("{}: another controller serves here", path.display()),
            "stop it, or give another --xds-socket",
        ),
        _ => Failure::new(format!("{}: {error}", path.display()), "give another --xds-socket"),
    };
    if let Some(parent) = path.parent() {
        state::private_folder(parent).map_err(failed)?;
    }
    Socket::bind(path).map_err(failed)
}

fn processors() -> u16 {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    u16::try_from(processors).unwrap_or(u16::MAX).max(2)
}

/// Makes sure that no two Gateways and no other program want the same port: Envoys would share it without a word, and
/// each would get some of the other's requests. Returns the ports that programs have and only ListenerSets want: these go
/// without.
///
/// # Errors
///
/// Names the port and who has it.
fn free_ports(configurations: &[Configuration]) -> Result<BTreeSet<u16>, Failure> {
    if let Some(clash) = clash(configurations) {
        return Err(Failure::new(clash, "give one of them another port"));
    }
    let mut occupied = BTreeSet::new();
    for port in configurations.iter().flat_map(|configuration| &configuration.listeners) {
        let bound = port.bound;
        match ports::busy(bound) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) if port.only_sets => {
                occupied.insert(bound);
            }
            Ok(Some(owner)) => {
                return Err(Failure::new(
                    format!("port {bound} is in use by {owner}"),
                    "stop it, or give the listener another port",
                ));
            }
            Err(error) => {
                return Err(Failure::new(
                    format!("port {bound}: {error}"),
                    "give the listener another port",
                ));
            }
        }
    }
    Ok(occupied)
}

/// Two listeners that want to be bound to one port.
fn clash(configurations: &[Configuration]) -> Option<String> {
    let mut taken: BTreeMap<u16, (&str, u16)> = BTreeMap::new();
    for configuration in configurations {
        for port in &configuration.listeners {
            let gateway = configuration.gateway.as_str();
            match taken.insert(port.bound, (gateway, port.port)) {
                Some((other, _)) if other != gateway => {
                    return Some(format!(
                        "Gateways {other} and {gateway} both want port {}, and each has an Envoy of its own here",
                        port.bound
                    ));
                }
                Some((_, other)) => {
                    return Some(format!(
                        "Gateway {gateway}: ports {other} and {} are both bound as {}, as ports below 1024 need root",
                        port.port, port.bound
                    ));
                }
                None => {}
            }
        }
    }
    None
}

/// The folder with Envoy's files.
struct RunDir {
    path: PathBuf,
    remove: bool,
}

impl RunDir {
    /// The given folder, or a new one that is removed at the end.
    fn new(given: Option<&Path>) -> Result<Self, Failure> {
        let failed = |path: &Path, error: &std::io::Error| {
            Failure::new(format!("{}: {error}", path.display()), "give --run-dir another folder")
        };
        if let Some(path) = given {
            let path = std::path::absolute(path).map_err(|error| failed(path, &error))?;
            state::own_folder(&path).map_err(|error| failed(&path, &error))?;
            return Ok(Self { path, remove: false });
        }
        let parent = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let mut name = [0_u8; 8];
        getrandom::fill(&mut name).map_err(|error| Failure::new(format!("no random bytes: {error}"), ""))?;
        let path = parent.join(format!("portcullis-{:016x}", u64::from_be_bytes(name)));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)
            .map_err(|error| failed(&path, &error))?;
        Ok(Self { path, remove: true })
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.remove {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_gateway::BoundPort;

    use super::*;

    fn configuration(gateway: &str, ports: &[u16]) -> Configuration {
        Configuration {
            gateway: gateway.to_owned(),
            resources: Vec::new(),
            listeners: ports
                .iter()
                .map(|port| BoundPort {
                    listeners: vec!["http".to_owned()],
                    port: *port,
                    bound: *port,
                    protocol: "HTTP".to_owned(),
                    only_sets: false,
                })
                .collect(),
        }
    }

    #[test]
    fn a_port_that_two_gateways_want_is_refused_and_one_that_a_program_holds_is_named() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let twice = [configuration("edge/a", &[1, port]), configuration("edge/b", &[port])];
        assert!(
            clash(&twice)
                .unwrap()
                .starts_with("Gateways edge/a and edge/b both want port")
        );
        assert_eq!(clash(&twice[..1]), None);
        let mut shifted = configuration("edge/a", &[10_080, 80]);
        shifted.listeners[1].bound = 10_080;
        assert_eq!(
            clash(&[shifted]).unwrap(),
            "Gateway edge/a: ports 10080 and 80 are both bound as 10080, as ports below 1024 need root"
        );
        let failure = free_ports(&[configuration("edge/a", &[port])]).unwrap_err().to_string();
        let expected = format!("port {port} is in use by pid {} (", std::process::id());
        assert!(failure.starts_with(&expected), "{failure}");
        let mut of_set = configuration("edge/a", &[port]);
        of_set.listeners[0].only_sets = true;
        assert_eq!(free_ports(&[of_set]).unwrap(), BTreeSet::from([port]));
    }

    #[test]
    fn a_folder_of_our_own_is_private_and_goes_away() {
        use std::os::unix::fs::MetadataExt;
        let folder = RunDir::new(None).unwrap();
        let path = folder.path.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
