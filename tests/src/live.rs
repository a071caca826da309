//! A controller and an Envoy that it serves, as `portcullis run --no-envoy` has them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    client::{self, Connection, Request},
    controller::{Controller, Place},
    envoy::Envoy,
    scratch::{self, Scratch},
    tables,
    wait::{self, PATIENCE},
};

/// A running pair; its manifests are in a folder of its own.
#[derive(Debug)]
pub struct Live {
    /// The controller.
    pub controller: Controller,
    /// The Envoy.
    pub envoy: Envoy,
    /// Where everything is kept.
    pub scratch: Scratch,
    folder: PathBuf,
}

impl Live {
    /// Writes the files, starts both and waits until every port in `ports` answers.
    #[must_use]
    pub fn start(files: &[(&str, String)], ports: &[u16]) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.join("manifests");
        for (name, text) in files {
            scratch::write(&folder.join(name), text);
        }
        let place = Place::new(&scratch, &folder);
        let controller = Controller::start(&place);
        let envoy = Envoy::start_with(&scratch, &place.bootstrap(), 4);
        for port in ports {
            wait::until("the gateway's port is open", PATIENCE, || {
                Connection::try_open(SocketAddr::from(([127, 0, 0, 1], *port))).ok()
            });
        }
        Self {
            controller,
            envoy,
            scratch,
            folder,
        }
    }

    /// Replaces one of its files.
    pub fn edit(&self, name: &str, text: &str) {
        scratch::write(&self.folder.join(name), text);
    }

    /// The folder of its manifests.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its folder renders to now.
    #[must_use]
    pub fn snippet(&self) -> Value {
        self.controller.place().snippet(&self.scratch)
    }

    /// The policy hashes of what its folder renders to now.
    #[must_use]
    pub fn hashes(&self) -> Vec<String> {
        tables::hashes(&self.snippet())
    }

    /// Panics if a listener was touched after the start: no policy and no route may do that.
    pub fn assert_listeners_untouched(&self) {
        let stats = self.envoy.stats();
        for counter in [
            "listener_modified",
            "listener_in_place_updated",
            "total_filter_chains_draining",
        ] {
            assert_eq!(stats.get(&format!("listener_manager.{counter}")), 0, "{counter}");
        }
    }
}

/// Sends `request` again and again on one connection until its status is `expected`; gives how long that took.
///
/// # Panics
/// If the connection is cut, or after `patience`.
pub fn until_status(
    connection: &mut Connection,
    request: &Request,
    expected: u16,
    patience: Duration,
) -> (client::Response, Duration) {
    let start = Instant::now();
    let what = format!("the status is {expected}");
    let response = wait::until(&what, patience, || {
        let response = connection.send(request);
        (response.status == expected).then_some(response)
    });
    (response, start.elapsed())
}
