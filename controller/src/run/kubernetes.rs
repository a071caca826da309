//! `portcullis run --kubernetes`: the objects of a cluster instead of files.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use portcullis_kubernetes::{Cluster, Election, Options, Writer, connect, salt_key};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    control::{Control, Filter},
    credentials::Keeper,
    health::Health,
    metrics::Metrics,
    namesake,
    objects::Objects,
    origin::{self, Change, Changes, Origin},
    statuses::Statuses,
};
use crate::{
    Answer,
    cli::RunArgs,
    failure::Failure,
    load::Settings,
    print::{self, Style, Tone},
    state,
};

/// The port of `/healthz`, `/readyz` and `/metrics`.
const PORT: u16 = 8081;

/// The port of xDS in mutual TLS.
const XDS_PORT: u16 = 18_000;

/// How often something that is waited for is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// Serves the objects of the cluster that `kubectl` would speak to, until a signal ends it.
pub(crate) async fn run(args: &RunArgs, filter: Filter, style: &Style) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot start: {error}"), "");
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let client = connect()
        .await
        .map_err(|error| Failure::new(error.to_string(), "set KUBECONFIG, or give the pod a service account"))?;
    let metrics = Metrics::new();
    let health = Health::new(metrics.clone());
    let address = args.health_address;
    let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)));
    let _serving = health.serve(address).await?;
    let mut namesake = namesake::watch(&client, args);
    tokio::select! {
        _ = interrupts.recv() => return Ok(Answer::Yes),
        _ = terminations.recv() => return Ok(Answer::Yes),
        alone = namesake::alone(namesake.as_mut(), &health, style) => alone?,
    }
    let state_dir = state::folder(args.filter.state_dir.as_deref())?;
    let shared = format!("{}-salt", args.instance);
    let salt_key = tokio::select! {
        _ = interrupts.recv() => return Ok(Answer::Yes),
        _ = terminations.recv() => return Ok(Answer::Yes),
        key = shared_key(&client, &shared, &health, style) => key,
    };
    let wasm = args.wasm_in_envoy.as_ref().unwrap_or(&filter.path);
    let settings = Settings {
        // A pod says for itself from which port on nobody needs to be root.
        port_shift: 0,
        namespace: Some(client.default_namespace().to_owned()),
        ..Settings::new(&args.manifests, wasm.display().to_string(), salt_key)
    };
    let options = Options {
        namespaces: settings.namespaces.clone(),
        services: settings.namespace.clone(),
    };
    let mut cluster = Cluster::watch(&client, options);
    loop {
        health.beat();
        let missing = cluster.missing();
        if !missing.is_empty() {
            health.unready(format!("not listed yet: {}", missing.join(", ")));
        }
        tokio::select! {
            _ = interrupts.recv() => return Ok(Answer::Yes),
            _ = terminations.recv() => return Ok(Answer::Yes),
            change = origin::next_of(&mut cluster) => match change {
                Change::Manifests => break,
                Change::Note(tone, text) => note(style, tone, &text),
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    let read = cluster.objects();
    let mut objects = Objects::new(read.clone(), Arc::new(settings));
    let (objects, first) = tokio::task::spawn_blocking(move || {
        let first = objects.refresh();
        (objects, first)
    })
    .await
    .map_err(|error| Failure::new(format!("reading objects failed: {error}"), ""))?;
    let Some(evaluation) = first.evaluation else {
        return Err(Failure::new("the cluster's objects were not evaluated", ""));
    };
    super::tell(evaluation.diagnostics.iter(), style);
    let told = *style;
    let kept =
        portcullis_kubernetes::Keeper::start(&client, &args.instance, move |text| note(&told, Tone::Warning, &text));
    let (keeper, shown) = kept
        .await
        .map_err(|error| Failure::new(format!("credentials of xDS: {error}"), ""))?;
    let address = args
        .xds_address
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, XDS_PORT)));
    let listener = super::listen(address, shown).await?;
    let socket = args
        .filter
        .xds_socket
        .clone()
        .unwrap_or_else(|| state_dir.join("xds.sock"));
    let socket = super::bind(&socket)?;
    let memory = state_dir.join(state::QUARANTINE_FILE);
    let origin = Origin::Cluster(Box::new(objects));
    let changes = Changes::Cluster(Box::new(cluster));
    let told = *style;
    let election = Election::start(&client, &args.instance, &identity(), move |text| {
        note(&told, Tone::Warning, &text);
    });
    let written = metrics.clone();
    let writer = Writer::start(
        &client,
        &read,
        &args.manifests.controller_name,
        election.leads(),
        move |outcome| written.status_written(outcome),
    );
    let control = Control::new((origin, changes), evaluation, filter, memory, health, style)
        .with_tls(listener, Keeper::Cluster(keeper))
        .with_statuses(Statuses::new(writer, election, metrics));
    tokio::select! {
        ended = control.run(socket) => ended,
        failure = namesake::appears(namesake.as_mut()) => Err(failure),
    }
}

/// The key that all replicas share; the API server is asked until it answers.
async fn shared_key(client: &portcullis_kubernetes::Client, name: &str, health: &Health, style: &Style) -> [u8; 32] {
    let mut trouble = String::new();
    loop {
        health.beat();
        match salt_key(client, name).await {
            Ok(key) => return key,
            Err(error) => {
                let text = format!("{error}; no policy has a name before there is a key");
                if text != trouble {
                    note(style, Tone::Warning, &text);
                    trouble = text;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What tells this replica from others: the pod's name, or else something made up.
fn identity() -> String {
    let named = ["POD_NAME", "HOSTNAME"].into_iter();
    let named = named.filter_map(|name| std::env::var(name).ok());
    let name = named.into_iter().find(|name| !name.is_empty());
    let mut random = [0_u8; 4];
    // Two runs in one place are told apart by their ids, then.
    let _ = getrandom::fill(&mut random);
    let suffix = format!("{:08x}", u32::from_be_bytes(random));
    match name {
        Some(name) => format!("{name}-{suffix}"),
        None => format!("{}-{suffix}", std::process::id()),
    }
}

pub(super) fn note(style: &Style, tone: Tone, text: &str) {
    print::note(&style.paint_err(tone, &format!("portcullis: {text}")));
}
