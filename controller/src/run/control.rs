//! The loop of a run: manifests, Envoys and signals in; configuration, lines and orders out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_gateway::Configuration;
use portcullis_xds::{Event, Socket, TlsListener};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc::UnboundedReceiver, watch},
    task::JoinSet,
};

use super::{
    contention::{by_port, modest},
    credentials::Keeper,
    envoy::{self, Fleet},
    fence::{Fence, Order},
    folder::Refreshed,
    health::Health,
    keys::{Fetched, Keys, News},
    origin::{Change, Changes, Origin},
    publication::Publication,
    report::{self, Deliveries, Delivery, Reporter},
    statuses::Statuses,
};
use crate::{
    Answer, answers,
    cli::Output,
    failure::Failure,
    load::Evaluation,
    ports,
    print::{self, Style, Tone},
    render,
};

/// How long lines are put off, so that one change of a file gives one set of lines.
const LINES: Duration = Duration::from_millis(20);

/// How often it is looked whether something that is on its way has become worth a line, or Envoy ready.
const LOOK: Duration = Duration::from_millis(50);

/// How often it is looked whether a certificate is to be made anew.
const RENEWALS: Duration = Duration::from_secs(600);

/// How often the loop goes round although nothing happens.
const IDLE: Duration = Duration::from_secs(5);

/// The filter that Envoys are told to load.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What it declares to decode.
    pub(crate) documents: Vec<u32>,
}

/// Everything that a run holds.
pub(crate) struct Control<'a> {
    style: &'a Style,
    filter: Filter,
    origin: Option<Origin>,
    changes: Changes,
    evaluation: Evaluation,
    told: BTreeSet<String>,
    publication: Publication,
    events: UnboundedReceiver<Event>,
    keys: Keys,
    fetches: UnboundedReceiver<Fetched>,
    /// Whose each bound port is.
    ports: BTreeMap<u16, String>,
    /// Ports that only listeners of ListenerSets want and that other programs had at the start.
    occupied: BTreeSet<u16>,
    /// The listener on TCP, until it is served.
    tls: Option<TlsListener>,
    keeper: Option<Keeper>,
    fleet: Option<Fleet>,
    envoys: Option<UnboundedReceiver<envoy::Event>>,
    reporter: Reporter,
    ready: bool,
    health: Arc<Health>,
    /// Where there is an API server to be told.
    statuses: Option<Statuses>,
    fence: Fence,
    /// When each Gateway was last sent something that its proxies do not all hold yet.
    pushed: BTreeMap<String, Instant>,
    digests: BTreeMap<String, String>,
}

impl<'a> Control<'a> {
    pub(crate) fn new(
        (origin, changes): (Origin, Changes),
        evaluation: Evaluation,
        filter: Filter,
        memory: PathBuf,
        health: Arc<Health>,
        style: &'a Style,
    ) -> Self {
        let (publication, events) = Publication::new(Some(memory));
        let (keys, fetches) = Keys::new(origin.system_trust().to_owned());
        Self {
            style,
            filter,
            origin: Some(origin),
            changes,
            told: evaluation.diagnostics.iter().map(ToString::to_string).collect(),
            evaluation,
            publication,
            events,
            keys,
            fetches,
            ports: BTreeMap::new(),
            occupied: BTreeSet::new(),
            tls: None,
            keeper: None,
            fleet: None,
            envoys: None,
            reporter: Reporter::default(),
            ready: false,
            health,
            statuses: None,
            fence: Fence::default(),
            pushed: BTreeMap::new(),
            digests: BTreeMap::new(),
        }
    }

    /// Tells an API server too.
    pub(crate) fn with_statuses(self, statuses: Statuses) -> Self {
        Self {
            statuses: Some(statuses),
            ..self
        }
    }

    /// Starts Envoys too; ports of ListenerSets that other programs have are not theirs.
    pub(crate) fn with_fleet(
        self,
        (fleet, envoys): (Fleet, UnboundedReceiver<envoy::Event>),
        occupied: BTreeSet<u16>,
    ) -> Self {
        Self {
            fleet: Some(fleet),
            envoys: Some(envoys),
            occupied,
            ..self
        }
    }

    /// Serves on TCP too, by credentials that are kept up to date.
    pub(crate) fn with_tls(self, listener: TlsListener, keeper: Keeper) -> Self {
        Self {
            tls: Some(listener),
            keeper: Some(keeper),
            ..self
        }
    }

    /// Serves on the socket until a signal ends it.
    pub(crate) async fn run(mut self, socket: Socket) -> Result<Answer, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("cannot start: {error}"), "");
        let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
        let path = socket.path().to_path_buf();
        self.publish();
        self.keys.ask(&self.evaluation.translation.key_servers);
        if self.evaluation.translation.configurations.is_empty() {
            self.note(Tone::Warning, "no Gateway of this controller yet; waiting for one");
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut serving = self.serve(socket, &stopped);
        let mut renewals = tokio::time::interval_at(tokio::time::Instant::now() + RENEWALS, RENEWALS);
        self.reconcile(&path)?;
        if self.fleet.is_none() {
            self.note(
                Tone::Faint,
                &format!(
                    "xds on {}; an Envoy's bootstrap: portcullis render --bootstrap",
                    path.display()
                ),
            );
        }
        let mut lines = Some(Instant::now());
        let failure = loop {
            self.health.beat();
            self.look_at_fence();
            let waits = self.waits() || self.statuses.as_ref().is_some_and(Statuses::waits);
            let idle = if waits { LOOK } else { IDLE };
            let next = Some(lines.unwrap_or_else(|| Instant::now() + idle));
            tokio::select! {
                _ = interrupts.recv() => break None,
                _ = terminations.recv() => break None,
                change = self.changes.next() => match change {
                    Change::Manifests => {
                        self.refresh(&path).await?;
                        lines = Some(Instant::now() + LINES);
                    }
                    Change::Note(tone, text) => self.note(tone, &text),
                },
                Some(event) = self.events.recv() => {
                    self.health.metrics().event(&event);
                    let notes = self.publication.event(event);
                    self.tell(notes);
                    self.arrived();
                    lines = lines.or_else(|| Some(Instant::now() + LINES));
                }
                Some(fetched) = self.fetches.recv() => {
                    let news = self.fetched(fetched);
                    if news.changed {
                        self.refresh(&path).await?;
                    }
                    if news != News::default() {
                        lines = lines.or_else(|| Some(Instant::now() + LINES));
                    }
                }
                () = heard(self.statuses.as_mut()) => lines = lines.or_else(|| Some(Instant::now() + LINES)),
                Some(event) = next_of(self.envoys.as_mut()) => self.envoy(&event),
                () = sleep_until(next) => {
                    let due = lines.take().is_some();
                    if due || waits {
                        self.lines().await?;
                    }
                }
                _ = renewals.tick() => self.renew(),
                Some(served) = serving.join_next() => {
                    let why = match served {
                        Ok(Ok(())) => "ended".to_owned(),
                        Ok(Err(error)) => error.to_string(),
                        Err(error) => error.to_string(),
                    };
                    break Some(Failure::new(format!("xds: {why}"), ""));
                }
            }
        };
        self.health.unready("ending");
        if let Some(statuses) = self.statuses.take() {
            statuses.end().await;
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.stop(false);
            tokio::select! {
                () = fleet.ended() => {}
                // A second signal is impatience.
                _ = interrupts.recv() => fleet.stop(true),
                _ = terminations.recv() => fleet.stop(true),
            }
            fleet.ended().await;
        }
        stop.send_replace(true);
        if failure.is_none() {
            let ended = async { while serving.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_millis(500), ended).await;
        }
        failure.map_or(Ok(Answer::Yes), Err)
    }

    /// Serves wherever it is listened.
    fn serve(&mut self, socket: Socket, stopped: &watch::Receiver<bool>) -> Serving {
        let mut serving = JoinSet::new();
        let until = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let (server, end) = (self.publication.server(), until(stopped.clone()));
        serving.spawn(async move { server.serve(socket, end).await });
        if let Some(listener) = self.tls.take() {
            if let Ok(address) = listener.address() {
                self.note(Tone::Faint, &format!("xds on {address} in mutual TLS"));
            }
            let (server, end) = (self.publication.server(), until(stopped.clone()));
            serving.spawn(async move { server.serve_tls(listener, end).await });
        }
        serving
    }

    /// Sends proxies to other replicas while this one is cut off from the API server.
    fn look_at_fence(&mut self) {
        let Some(statuses) = &self.statuses else { return };
        match self.fence.look(statuses.is_cut_off(), Instant::now()) {
            Order::Nothing => {}
            Order::Raise => {
                self.health.unready("cut off from the API server");
                self.publication.server().hang_up();
                self.note(
                    Tone::Bad,
                    "cut off from the API server: proxies are sent to other replicas, and keep what they have if there is none",
                );
            }
            Order::SendAway => self.publication.server().hang_up(),
            Order::Lower => {
                if self.ready {
                    self.health.ready();
                }
                self.note(Tone::Good, "the API server is in reach again");
            }
        }
    }

    /// Sees to it that every Gateway's proxies have credentials.
    fn renew(&mut self) {
        let gateways = self.publication.gateways().map(String::as_str);
        let renewed = self
            .keeper
            .as_mut()
            .map(|keeper| keeper.renew(gateways, answers::seconds()));
        if let Some(Err(failure)) = renewed {
            self.note(Tone::Bad, &failure.to_string());
        }
    }

    fn note(&self, tone: Tone, text: &str) {
        print::note(&self.style.paint_err(tone, &format!("portcullis: {text}")));
    }

    /// Takes in what became of a fetch of keys.
    fn fetched(&mut self, fetched: Fetched) -> News {
        let news = self.keys.take(fetched);
        self.health.metrics().key_sets(self.keys.fetched_at());
        if let Some(line) = &news.line {
            self.note(Tone::Warning, line);
        }
        if news.changed
            && let Some(origin) = &mut self.origin
        {
            origin.ship(self.keys.sets());
        }
        news
    }

    fn waits(&self) -> bool {
        !self.ready || self.reporter.waits()
    }

    /// Reads the manifests again and serves what they say now.
    async fn refresh(&mut self, socket: &std::path::Path) -> Result<(), Failure> {
        let Some(mut origin) = self.origin.take() else {
            return Ok(());
        };
        let began = Instant::now();
        let looked = tokio::task::spawn_blocking(move || {
            let refreshed = origin.refresh();
            (origin, refreshed)
        });
        let (origin, refreshed) = looked
            .await
            .map_err(|error| Failure::new(format!("reading manifests failed: {error}"), ""))?;
        self.origin = Some(origin);
        let Refreshed {
            evaluation,
            notes,
            refused,
        } = refreshed;
        for note in notes {
            self.note(Tone::Warning, &note);
        }
        if let Some(evaluation) = evaluation {
            let former = std::mem::replace(&mut self.evaluation, evaluation);
            if let Some(statuses) = &mut self.statuses {
                statuses.forget();
            }
            self.publish();
            self.keys.ask(&self.evaluation.translation.key_servers);
            self.health.metrics().key_sets(self.keys.fetched_at());
            // Taking so much apart takes a while, and none of it is waited for.
            tokio::task::spawn_blocking(move || drop(former));
            self.reconcile(socket)?;
            self.health.metrics().reconciled(began.elapsed());
        }
        let all = || self.evaluation.diagnostics.iter().chain(&refused);
        super::tell(
            all().filter(|diagnostic| !self.told.contains(&diagnostic.to_string())),
            self.style,
        );
        self.told = all().map(ToString::to_string).collect();
        Ok(())
    }

    /// The configurations that can be served: of two Gateways that want one port here, the one that has it keeps it.
    fn configurations(&self) -> Vec<Configuration> {
        let all = &self.evaluation.translation.configurations;
        if self.fleet.is_none() {
            return all.clone();
        }
        let (all, withdrawn) = modest(all, &self.ports, &self.occupied);
        for why in withdrawn {
            self.note(Tone::Warning, &why);
        }
        let (served, clashes) = by_port(&all, &self.ports);
        for clash in clashes {
            self.note(Tone::Bad, &format!("{clash}; only the first is served"));
        }
        served
    }

    /// Publishes what changed.
    fn publish(&mut self) {
        let configurations = self.configurations();
        self.look_at_ports(&configurations);
        let notes = self.publication.publish(&configurations);
        self.tell(notes);
        let digests = self.publication.digests();
        let same = self.digests.keys().eq(digests.keys());
        for (gateway, digest) in &digests {
            if self.digests.get(gateway) != Some(digest) {
                self.pushed.entry(gateway.clone()).or_insert_with(Instant::now);
            }
        }
        self.pushed.retain(|gateway, _| digests.contains_key(gateway));
        self.digests = digests;
        // An edit makes no certificate due.
        if !same {
            self.renew();
        }
    }

    /// Measures what has come to all proxies just now.
    fn arrived(&mut self) {
        let publication = &self.publication;
        let metrics = self.health.metrics();
        self.pushed.retain(|gateway, since| {
            let arrived = publication.is_acknowledged(gateway);
            if arrived {
                metrics.pushed(since.elapsed());
            }
            !arrived
        });
    }

    fn tell(&self, notes: Vec<(Tone, String)>) {
        for (tone, text) in notes {
            self.note(tone, &text);
        }
    }

    /// Tells whose a new port is if it is taken: Envoys share ports without a word.
    fn look_at_ports(&mut self, configurations: &[Configuration]) {
        if self.fleet.is_none() {
            return;
        }
        let bound = |configuration: &Configuration| {
            configuration
                .listeners
                .iter()
                .map(|port| (port.bound, configuration.gateway.clone()))
                .collect::<Vec<_>>()
        };
        let now: BTreeMap<_, _> = configurations.iter().flat_map(bound).collect();
        // At the start they were looked at already, with the power to refuse.
        let first = self.ports.is_empty();
        for port in now.keys().filter(|port| !first && !self.ports.contains_key(port)) {
            if let Ok(Some(owner)) = ports::busy(*port) {
                self.note(
                    Tone::Bad,
                    &format!("port {port} is in use by {owner}; stop it: it may get requests meant for Envoy"),
                );
            }
        }
        self.ports = now;
    }

    /// Starts and stops Envoys.
    fn reconcile(&mut self, socket: &std::path::Path) -> Result<(), Failure> {
        let Some(fleet) = &mut self.fleet else {
            return Ok(());
        };
        let mut bootstraps = BTreeMap::new();
        for gateway in self.publication.gateways() {
            let admin = fleet.admin(gateway);
            bootstraps.insert(
                gateway.clone(),
                render::bootstrap(gateway, socket, &admin, &self.filter.path, &self.filter.documents)?,
            );
        }
        fleet
            .reconcile(&bootstraps)
            .map_err(|error| Failure::new(format!("cannot start Envoy: {error}"), "give --run-dir another folder"))
    }

    fn envoy(&mut self, event: &envoy::Event) {
        match event {
            envoy::Event::Started { gateway, pid } => {
                let folder = self
                    .fleet
                    .as_ref()
                    .map(|fleet| fleet.folder(gateway))
                    .unwrap_or_default();
                self.note(
                    Tone::Faint,
                    &format!("envoy {gateway}: pid {pid}, files in {}", folder.display()),
                );
            }
            envoy::Event::Died {
                gateway,
                how,
                log,
                wait,
            } => self.note(
                Tone::Bad,
                &format!(
                    "envoy {gateway}: {how}, see {}; starting it again in {} ms",
                    log.display(),
                    wait.as_millis()
                ),
            ),
        }
    }

    /// Prints the lines that are news, and `ready` once everything is in place.
    async fn lines(&mut self) -> Result<(), Failure> {
        let attachment = &self.evaluation.attachment;
        let mut deliveries = self.publication.deliveries(attachment, self.fleet.is_some());
        deliveries.degraded = self.keys.troubles(attachment);
        if let Some(statuses) = &mut self.statuses {
            statuses.publish(&self.evaluation, deliveries.clone(), &self.digests);
        }
        let rows = report::rows(&self.evaluation, &deliveries);
        let (news, gone) = self.reporter.news(rows, Instant::now());
        report::print(&news, self.style)?;
        for subject in gone {
            self.note(Tone::Faint, &format!("{subject}: gone"));
        }
        if !self.ready && self.is_ready(&deliveries).await {
            self.ready = true;
            if !self.fence.is_up() {
                self.health.ready();
            }
            print::line(match self.style.output {
                Output::Text => "ready",
                Output::Json => "{\"kind\":\"ready\"}",
                Output::Yaml => "---\nkind: ready",
            })?;
        }
        Ok(())
    }

    /// Whether every Envoy of this run takes requests; Envoys of the user's own are not waited for.
    async fn is_ready(&self, deliveries: &Deliveries) -> bool {
        let Some(fleet) = &self.fleet else {
            return true;
        };
        for (gateway, delivery) in &deliveries.gateways {
            if *delivery != Delivery::Acknowledged {
                return false;
            }
            let admin = fleet.admin(gateway);
            let filter = "/stats?filter=^listener_manager\\.(workers_started|total_listeners_warming)$";
            let Ok((200, stats)) = admin.get(filter).await else {
                return false;
            };
            let value = |name: &str| {
                stats
                    .lines()
                    .any(|line| line.trim() == format!("listener_manager.{name}"))
            };
            if !value("workers_started: 1") || !value("total_listeners_warming: 0") {
                return false;
            }
        }
        true
    }
}

/// Servers, until they end.
type Serving = JoinSet<Result<(), portcullis_xds::ServeError>>;

async fn next_of<T>(receiver: Option<&mut UnboundedReceiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn heard(statuses: Option<&mut Statuses>) {
    match statuses {
        Some(statuses) => statuses.heard().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
