//! Another controller of the same name: Envoy Gateway, where this one goes by its name.

use portcullis_kubernetes::{Client, ENVOY_GATEWAY, EnvoyGateway, Sight};

use super::{
    health::Health,
    kubernetes::{LOOK, note},
};
use crate::{
    cli::RunArgs,
    failure::Failure,
    print::{Style, Tone},
};

/// What is to be looked at; nothing if this controller has a name of its own.
pub(super) fn watch(client: &Client, args: &RunArgs) -> Option<EnvoyGateway> {
    let same = args.manifests.controller_name == ENVOY_GATEWAY;
    same.then(|| EnvoyGateway::new(client, &args.envoy_gateway_namespace))
}

/// Waits until it is sure that the other one does not run.
///
/// # Errors
/// It runs.
pub(super) async fn alone(other: Option<&mut EnvoyGateway>, health: &Health, style: &Style) -> Result<(), Failure> {
    let Some(other) = other else { return Ok(()) };
    let mut told = String::new();
    loop {
        health.beat();
        let text = match other.look().await {
            Ok(Sight::Gone) => return Ok(()),
            Ok(Sight::Alive(who)) => return Err(refusal(&who)),
            Ok(Sight::Unsure(who)) => format!("waiting for what becomes of Envoy Gateway: {who}"),
            Err(error) => format!("it is not known whether Envoy Gateway runs: {error}"),
        };
        health.unready(text.clone());
        if text != told {
            note(style, Tone::Warning, &text);
            told = text;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the other one runs, if it ever does.
pub(super) async fn appears(other: Option<&mut EnvoyGateway>) -> Failure {
    let Some(other) = other else {
        return std::future::pending().await;
    };
    loop {
        // What cannot be asked for a while is no reason to end.
        if let Ok(Sight::Alive(who)) = other.look().await {
            return refusal(&who);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn refusal(who: &str) -> Failure {
    Failure::new(
        format!("Envoy Gateway runs, under the name of this controller: {who}"),
        "give --controller-name another name, or take Envoy Gateway away first",
    )
}
