//! Answers requests as Envoy would, from the very messages that it is given, and decides them with the filter's engine.
//!
//! A field that is not understood is never passed over: the answer is then [`Unclear`].

mod callouts;
mod certificate;
mod client;
mod decision;
mod forward;
mod head;
mod listener;
mod matching;
mod path;
mod response;
mod table;
mod unclear;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use envoy_types::pb::envoy::config::route::v3::route::Action;
use portcullis_engine::{
    http::RequestHead,
    step::{Outcome, apply},
};

pub use self::{
    callouts::Callouts,
    certificate::{ClientCertificate, Shown},
    decision::{Decision, Shadow},
    forward::Upstream,
    head::Sent,
    response::Response,
    unclear::Unclear,
};
use self::{
    certificate::Connected,
    decision::{Decided, Surroundings, decide},
    forward::{Lines, clusters, modify, redirect, upstream},
    head::{Admitted, admit},
    listener::{Chain, Socket},
    matching::is_grpc,
    response::local,
    table::{Selected, Table},
};
use crate::{
    BoundPort, Configuration,
    listener::socket_name,
    resource::{LISTENER, ROUTE_CONFIGURATION},
    route::rule::NO_CLUSTER,
};

/// The body of the seal's refusal.
const SEALED: &[u8] = b"RBAC: access denied";

/// A proxy of one Gateway, as it would run with a configuration.
pub struct Proxy {
    gateway: String,
    ports: Vec<BoundPort>,
    sockets: Vec<Socket>,
    tables: BTreeMap<String, Table>,
}

/// The answer to a request, and how it came about.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The port of the Gateway's listener.
    pub port: u16,
    /// The filter chain: of HTTPS the listener's name.
    pub chain: Option<String>,
    /// The route table.
    pub table: Option<String>,
    /// The virtual host.
    pub host: Option<String>,
    /// The route, as Envoy's access log names it.
    pub route: Option<String>,
    /// The other route that was selected once identity headers were removed.
    pub rerouted: Option<String>,
    /// The client's address, as the policy sees it.
    pub client: IpAddr,
    /// What the policy of the first route decided, where claims brought the request to one with another policy.
    pub first: Option<Decision>,
    /// What the policy decided; nothing if the request never came to it.
    pub decision: Option<Decision>,
    /// How it ended.
    pub end: End,
    /// What the proxy answers; of a forwarded request what it changes in the backend's answer.
    pub response: Response,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection is closed: no listener serves the server name.
    Closed,
    /// The connection is closed: the client shows no certificate.
    Uncertified,
    /// Answered before a route was looked for, and why.
    Early(&'static str),
    /// The policy refused it.
    Denied,
    /// The policy answered it: a preflight.
    Preflight,
    /// The route that was selected at last has another policy than the one that decided.
    Sealed,
    /// The route itself answers, without a backend.
    Status,
    /// The route redirects.
    Redirect,
    /// It goes to a backend: as what, if that can be told; and whether all shares of the route have one.
    Forward {
        /// What the backend gets.
        upstream: Result<Upstream, Unclear>,
        /// Whether chance may choose a share that answers 500.
        lossy: bool,
    },
}

impl Answer {
    /// Whether the request gets what its route does for those who may: a backend or a redirect.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        matches!(self.end, End::Redirect | End::Forward { .. })
    }

    /// The reason in the vocabulary of metrics and logs; `seal` for the seal's refusal.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        if self.end == End::Sealed {
            return Some("seal");
        }
        self.decision.as_ref().map(|decision| decision.reason.as_str())
    }
}

impl Proxy {
    /// Reads a Gateway's configuration.
    ///
    /// # Errors
    ///
    /// A listener or a route table says something that is not understood.
    pub fn read(configuration: &Configuration) -> Result<Self, Unclear> {
        let mut proxy = Self {
            gateway: configuration.gateway.clone(),
            ports: configuration.listeners.clone(),
            sockets: Vec::new(),
            tables: BTreeMap::new(),
        };
        // Connections without requests are nothing to answer.
        let tcp = configuration.listeners.iter().filter(|port| port.protocol == "TCP");
        let tcp: BTreeSet<String> = tcp.map(|port| socket_name(&port.protocol, port.port)).collect();
        for resource in &configuration.resources {
            if resource.type_url == LISTENER && tcp.contains(&resource.name) {
                continue;
            }
            if resource.type_url == LISTENER {
                proxy.sockets.push(Socket::read(resource)?);
            } else if resource.type_url == ROUTE_CONFIGURATION {
                proxy.tables.insert(resource.name.clone(), Table::read(resource)?);
            }
        }
        Ok(proxy)
    }

    /// The Gateway, `namespace/name`.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Answers a request; `now` in nanoseconds since 1970.
    ///
    /// # Errors
    ///
    /// The answer depends on something that is not understood, or no listener has the port.
    pub fn answer(&self, sent: &Sent, now: u64) -> Result<Answer, Unclear> {
        let (port, socket) = self.socket(sent)?;
        let mut answer = Answer {
            port,
            chain: None,
            table: None,
            host: None,
            route: None,
            rerouted: None,
            client: sent.from,
            first: None,
            decision: None,
            end: End::Closed,
            response: Response::default(),
        };
        let Some(chain) = socket.chain(sent.server_name(), sent.from) else {
            return Ok(answer);
        };
        answer.chain = Some(chain.name.clone());
        answer.table = Some(chain.table.clone());
        let certificate = match chain.validation.connect(&sent.certificate)? {
            Connected::Stands(certificate) => certificate,
            Connected::Refused => {
                answer.end = End::Uncertified;
                return Ok(answer);
            }
        };
        match admit(sent, chain)? {
            Admitted::Answered(status, location, why) => {
                answer.end = End::Early(why);
                let line = |location: String| (b"location".to_vec(), location.into_bytes());
                answer.response = Response::new(Some(status), &location.map(line).into_iter().collect());
                Ok(answer)
            }
            Admitted::Goes(received) => {
                let around = Surroundings {
                    client: received.client,
                    // The client's own port is chosen by its system; an address that another proxy told has none.
                    client_ports: if received.client == sent.from {
                        &[1024, 65535]
                    } else {
                        &[0]
                    },
                    port,
                    certificate,
                    callouts: &sent.callouts,
                    // Without databases nobody is looked up, and that is known.
                    placed: received.head.geography.is_some() || !chain.places,
                    now,
                };
                self.route(chain, &received.head, around, answer)
            }
        }
    }

    fn route(
        &self,
        chain: &Chain,
        head: &RequestHead,
        around: Surroundings<'_>,
        mut answer: Answer,
    ) -> Result<Answer, Unclear> {
        let table = self
            .tables
            .get(&chain.table)
            .ok_or_else(|| Unclear::new(format!("there is no route table {}", chain.table)))?;
        let nowhere = || Unclear::new("no route takes the request");
        let selected = table.select(head, None)?.ok_or_else(nowhere)?;
        answer.client = around.client;
        answer.host = Some(selected.host.name.clone());
        answer.route = Some(selected.route.name.clone());
        let grpc = is_grpc(head);
        let mut changed = head.clone();
        let read = head.clone().without_port();
        let (mut decided, mut at, mut last) = (decide(selected, &read, around)?, selected, selected);
        let claims = decided.claims();
        loop {
            let edits = &decided.decision.edits;
            answer.decision = Some(decided.decision.clone());
            if let Some(reply) = &decided.reply {
                answer.end = if decided.decision.outcome == Outcome::Answer {
                    End::Preflight
                } else {
                    End::Denied
                };
                answer.response = respond(at, &decided, reply.status, reply.body, &reply.headers, grpc)?;
                return Ok(answer);
            }
            apply(&edits.headers, &mut changed.headers);
            if edits.clear_route_cache {
                last = table.select(&changed, claims.as_deref())?.ok_or_else(nowhere)?;
            }
            if last.route.name != selected.route.name {
                answer.rerouted = Some(last.route.name.clone());
            }
            let again = answer.first.is_none() && claims.is_some() && selected.rechecks();
            if last.hash() == at.hash() || !again {
                break;
            }
            answer.first = answer.decision.take();
            decided = decided.again(last, &read, around)?;
            at = last;
        }
        let head = changed;
        if last.hash() != at.hash() {
            answer.end = End::Sealed;
            answer.response = respond(last, &decided, 403, SEALED, &Lines::new(), grpc)?;
            return Ok(answer);
        }
        match last.action()? {
            Action::DirectResponse(action) => {
                let status = u16::try_from(action.status)
                    .ok()
                    .filter(|_| action.body.is_none() && action.body_format.is_none())
                    .ok_or_else(|| Unclear::new(format!("the route {} answers with a body", last.route.name)))?;
                answer.end = End::Status;
                answer.response = respond(last, &decided, status, b"", &Lines::new(), grpc)?;
            }
            Action::Redirect(action) => {
                let (status, location) = redirect(last.route, action, &head)?;
                answer.end = End::Redirect;
                let location = vec![(b"location".to_vec(), location.into_bytes())];
                answer.response = respond(last, &decided, status, b"", &location, grpc)?;
            }
            Action::Route(action) => {
                let lossy = clusters(action)?
                    .iter()
                    .any(|share| share.name == NO_CLUSTER && share.weight.is_some_and(|weight| weight.value > 0));
                answer.end = End::Forward {
                    upstream: upstream(last.route, action, &head),
                    lossy,
                };
                let mut lines = Lines::new();
                modify(
                    &last.route.response_headers_to_add,
                    &last.route.response_headers_to_remove,
                    &mut lines,
                )?;
                decided.respond(200, &mut lines);
                answer.response = Response::new(None, &lines);
            }
            _ => {
                return Err(Unclear::new(format!(
                    "the route {} does what only Envoy can",
                    last.route.name
                )));
            }
        }
        Ok(answer)
    }

    /// The socket that a URL leads to: by the port that it names, else the scheme's own, else the only one of the scheme.
    fn socket(&self, sent: &Sent) -> Result<(u16, &Socket), Unclear> {
        let of_scheme: Vec<(&BoundPort, &Socket)> = self
            .ports
            .iter()
            .filter_map(|port| {
                let socket = self.sockets.iter().find(|socket| socket.bound == port.bound)?;
                (socket.secure() == sent.secure).then_some((port, socket))
            })
            .collect();
        let default = if sent.secure { 443 } else { 80 };
        let on = |wanted: u16| of_scheme.iter().find(|(port, _)| port.port == wanted);
        let found = match (sent.port, of_scheme.as_slice()) {
            (Some(wanted), _) => on(wanted).or_else(|| of_scheme.iter().find(|(port, _)| port.bound == wanted)),
            (None, [only]) => Some(only),
            (None, _) => on(default),
        };
        let takes_connections = |wanted: &u16| {
            let mut ports = self.ports.iter().filter(|port| port.protocol == "TCP");
            ports.any(|port| port.port == *wanted || port.bound == *wanted)
        };
        if let Some(wanted) = sent.port.filter(takes_connections).filter(|_| found.is_none()) {
            return Err(Unclear::new(format!(
                "port {wanted} of Gateway {} takes TCP connections, and what is said on them is not looked at",
                self.gateway
            )));
        }
        found.map(|(port, socket)| (port.port, *socket)).ok_or_else(|| {
            let scheme = if sent.secure { "https" } else { "http" };
            let ports: Vec<String> = of_scheme.iter().map(|(port, _)| port.port.to_string()).collect();
            let served = if ports.is_empty() {
                "none".to_owned()
            } else {
                ports.join(", ")
            };
            Unclear::new(format!(
                "Gateway {} has no listener for {scheme} on port {}; its ports for {scheme}: {served}",
                self.gateway,
                sent.port.unwrap_or(default),
            ))
        })
    }
}

/// The proxy's own answer on a route: what the route and then the policy change in it.
fn respond(
    selected: Selected<'_>,
    decided: &Decided,
    status: u16,
    body: &[u8],
    own: &Lines,
    grpc: bool,
) -> Result<Response, Unclear> {
    let (status, mut lines) = local(status, body, grpc);
    modify(
        &selected.route.response_headers_to_add,
        &selected.route.response_headers_to_remove,
        &mut lines,
    )?;
    lines.extend(own.iter().cloned());
    decided.respond(status, &mut lines);
    Ok(Response::new(Some(status), &lines))
}
