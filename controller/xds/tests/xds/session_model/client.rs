//! The model's client: what it does and what it holds.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource, Status};
use proptest::prelude::*;

use super::{NAMES, TYPES};

/// The content that every client rejects.
pub(super) const POISON: u8 = 3;

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Replaces what is published: per type and name nothing, or one of four contents.
    Publish(Vec<Option<u8>>),
    /// Changes one resource.
    Touch(usize, usize, Option<u8>),
    /// The client takes the next response; the number decides what of a rejected response takes effect.
    Receive(u8),
    /// The session takes the next request.
    Request,
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    /// Switches a wildcard subscription.
    Wildcard(usize),
    /// A request that acknowledges what was never sent.
    Stray(usize, bool),
    Impatience,
    /// The stream breaks; the server may have been restarted.
    Reconnect,
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let content = || prop_oneof![1 => Just(None), 4 => (0..=POISON).prop_map(Some)];
    prop_oneof![
        2 => proptest::collection::vec(content(), TYPES.len() * NAMES.len()).prop_map(Action::Publish),
        4 => (0..TYPES.len(), 0..NAMES.len(), content()).prop_map(|(kind, name, content)| Action::Touch(kind, name, content)),
        10 => any::<u8>().prop_map(Action::Receive),
        10 => Just(Action::Request),
        3 => (0..TYPES.len(), 0..NAMES.len()).prop_map(|(kind, name)| Action::Subscribe(kind, name)),
        3 => (0..TYPES.len(), 0..NAMES.len()).prop_map(|(kind, name)| Action::Unsubscribe(kind, name)),
        1 => (0..TYPES.len()).prop_map(Action::Wildcard),
        1 => (0..TYPES.len(), any::<bool>()).prop_map(|(kind, nack)| Action::Stray(kind, nack)),
        1 => Just(Action::Impatience),
        1 => Just(Action::Reconnect),
    ]
}

/// The client's view of one type.
#[derive(Debug, Default)]
pub(super) struct Kind {
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<String>,
    /// What it uses.
    pub(super) content: BTreeMap<String, Vec<u8>>,
    /// What it will say to hold when it reconnects.
    pub(super) versions: BTreeMap<String, String>,
    /// What took effect out of a rejected response, so that the client uses another version than it says. A session
    /// learns of it by the rejection; a session that begins later cannot.
    pub(super) unsaid: BTreeSet<String>,
    pub(super) lost: BTreeSet<String>,
    pub(super) introduced: bool,
}

impl Kind {
    /// Takes a response, and answers it; the number decides what of a rejected one takes effect.
    pub(super) fn receive(&mut self, response: DeltaDiscoveryResponse, choice: u8) -> DeltaDiscoveryRequest {
        let poisoned = response.resources.iter().any(|resource| body(resource)[1] == POISON);
        for (position, resource) in response.resources.iter().enumerate() {
            if !(self.wildcard || self.names.contains(&resource.name)) {
                continue;
            }
            // Of a rejected response anything may have taken effect, except what is at fault.
            let takes_effect = !poisoned || (body(resource)[1] != POISON && choice >> (position % 8) & 1 == 1);
            if takes_effect {
                self.content.insert(resource.name.clone(), body(resource));
            }
            if poisoned && takes_effect {
                self.unsaid.insert(resource.name.clone());
            }
            if !poisoned {
                self.unsaid.remove(&resource.name);
                self.lost.remove(&resource.name);
                self.versions.insert(resource.name.clone(), resource.version.clone());
            }
        }
        if !poisoned {
            for name in &response.removed_resources {
                self.content.remove(name);
                self.versions.remove(name);
                self.unsaid.remove(name);
                self.lost.remove(name);
            }
        }
        DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: poisoned.then(|| Status {
                code: 13,
                message: "poison".to_owned(),
            }),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

fn body(resource: &Resource) -> Vec<u8> {
    resource.resource.as_ref().unwrap().value.to_vec()
}
