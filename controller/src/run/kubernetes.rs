//! `portcullis run --kubernetes`: the objects of a cluster instead of files.

use std::sync::Arc;

use portcullis_kubernetes::{Cluster, Options, connect};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    control::{Control, Filter},
    objects::Objects,
    origin::{self, Change, Changes, Origin},
};
use crate::{
    Answer,
    cli::RunArgs,
    failure::Failure,
    load::{self, Settings},
    print::{self, Style},
    state,
};

/// Serves the objects of the cluster that `kubectl` would speak to, until a signal ends it.
pub(crate) async fn run(args: &RunArgs, filter: Filter, style: &Style) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot start: {error}"), "");
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let client = connect()
        .await
        .map_err(|error| Failure::new(error.to_string(), "set KUBECONFIG, or give the pod a service account"))?;
    let state_dir = state::folder(args.filter.state_dir.as_deref())?;
    let salt_key = state::salt_key(&state_dir)?;
    let wasm = args.wasm_in_envoy.as_ref().unwrap_or(&filter.path);
    let settings = Settings {
        // A pod's Envoy is nobody's root, and a Service leads from one port to the other.
        port_shift: load::PORT_SHIFT,
        ..Settings::new(&args.manifests, wasm.display().to_string(), salt_key)
    };
    let options = Options {
        namespaces: settings.namespaces.clone(),
    };
    let mut cluster = Cluster::watch(&client, options);
    loop {
        tokio::select! {
            _ = interrupts.recv() => return Ok(Answer::Yes),
            _ = terminations.recv() => return Ok(Answer::Yes),
            change = origin::next_of(&mut cluster) => match change {
                Change::Manifests => break,
                Change::Note(tone, text) => print::note(&style.paint_err(tone, &format!("portcullis: {text}"))),
            },
        }
    }
    let mut objects = Objects::new(cluster.objects(), Arc::new(settings));
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
    let socket = args
        .filter
        .xds_socket
        .clone()
        .unwrap_or_else(|| state_dir.join("xds.sock"));
    let socket = super::bind(&socket)?;
    let memory = state_dir.join(state::QUARANTINE_FILE);
    let origin = Origin::Cluster(Box::new(objects));
    let changes = Changes::Cluster(Box::new(cluster));
    Control::new((origin, changes), evaluation, filter, memory, style)
        .run(socket)
        .await
}
