//! TCPRoutes: who may connect is decided before the backend hears of a connection, and before a client hears of the
//! backend.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    controller::{self, portcullis},
    live::Live,
    manifests,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// How long a refused client waits for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// A backend that counts its connections, greets if it has a greeting, and says everything back.
struct Backend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    fn start(greeting: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || converse(stream, greeting));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn converse(stream: io::Result<TcpStream>, greeting: &[u8]) -> io::Result<()> {
    let mut stream = stream?;
    stream.write_all(greeting)?;
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

/// Connects to a port of the gateway from 127.0.0.`last`.
fn connect(port: u16, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())
        .unwrap();
    socket
        .connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that comes until the gateway closes the connection.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => all,
        Err(error) => panic!("the connection stays open: {error}"),
    }
}

/// Whether a client gets through, in both directions, and what the backend says first.
fn passes(port: u16, last: u8, greeting: &[u8]) -> bool {
    let mut stream = connect(port, last);
    let exchange = |stream: &mut TcpStream| -> io::Result<()> {
        let mut greeted = vec![0; greeting.len()];
        stream.read_exact(&mut greeted)?;
        assert_eq!(greeted, greeting);
        stream.write_all(b"ping")?;
        let mut back = [0; 4];
        stream.read_exact(&mut back)?;
        assert_eq!(&back, b"ping");
        Ok(())
    };
    match exchange(&mut stream) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither served nor closed: {error}"),
        Err(_) => false,
    }
}

/// A refused client hears nothing, and the backend hears nothing of it; whether or not it speaks first.
fn assert_refused(port: u16, last: u8, backend: &Backend) {
    for speaks in [false, true] {
        let before = backend.connections();
        let mut stream = connect(port, last);
        if speaks {
            // The gateway may have closed already.
            let _ = stream.write_all(b"hello");
        }
        assert_eq!(rest(stream), b"", "127.0.0.{last} on {port}");
        thread::sleep(SILENCE);
        assert_eq!(backend.connections(), before, "127.0.0.{last} on {port}");
    }
}

fn until_passes(port: u16, last: u8, greeting: &[u8], expected: bool) {
    wait::until("the edit is live", PATIENCE, || {
        (passes(port, last, greeting) == expected).then_some(())
    });
}

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    let mut policy = manifests::policy(name, spec);
    policy["spec"]["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": kind, "name": name}]);
    if kind == "Gateway" {
        policy["metadata"]["namespace"] = "edge".into();
    }
    policy
}

fn rule(action: &str, cidrs: &[&str]) -> Value {
    json!({"action": action, "principal": {"clientCIDRs": cidrs}})
}

fn rules(rules: &[Value]) -> Value {
    json!({"authorization": {"rules": rules}})
}

/// A gateway whose listeners have a TCPRoute of the same name each, all to one backend.
fn start(backend: &Backend, names: &[&str], policies: &[Value]) -> (Live, Vec<u16>) {
    let ports: Vec<u16> = names.iter().map(|_| controller::free_port()).collect();
    let listeners = names.iter().zip(&ports);
    let listeners: Vec<Value> = listeners
        .map(|(name, port)| manifests::tcp_listener(name, *port))
        .collect();
    let mut objects = vec![
        manifests::gateway_class(),
        manifests::gateway(&listeners),
        manifests::backend("echo", backend.address),
    ];
    objects.extend(names.iter().map(|name| manifests::tcp_route(name, "echo")));
    let files = [
        ("gateway.yaml", manifests::file(&objects)),
        ("policies.yaml", manifests::file(policies)),
    ];
    let live = Live::start(&files, &[]);
    wait::until("the listeners are there", PATIENCE, || {
        (live.envoy.listeners().len() == names.len()).then_some(())
    });
    for port in &ports {
        wait::until("the port is open", PATIENCE, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).ok().map(drop)
        });
    }
    // What of that came to the backend is counted before anything else is.
    thread::sleep(SILENCE);
    (live, ports)
}

#[test]
fn who_is_refused_hears_nothing_and_the_backend_hears_nothing_of_it() {
    for greeting in [&b"220 hello\r\n"[..], b""] {
        let backend = Backend::start(greeting);
        let mapped = rule("Allow", &["::ffff:127.0.0.3/128"]);
        let (live, ports) = start(
            &backend,
            &["open", "db", "none"],
            &[
                policy(
                    "TCPRoute",
                    "db",
                    rules(&[
                        rule("Deny", &["127.0.0.2/32"]),
                        rule("Allow", &["127.0.0.0/30", "2001:db8::/32"]),
                        mapped,
                    ]),
                ),
                policy("TCPRoute", "none", json!({"authorization": {}})),
            ],
        );
        let [open, db, none] = ports[..] else { unreachable!() };
        for last in [1, 2, 9] {
            assert!(passes(open, last, greeting), "no policy");
        }
        assert!(passes(db, 1, greeting), "within the range");
        assert!(passes(db, 3, greeting), "within the range, and written as IPv6");
        assert_refused(db, 2, &backend);
        assert_refused(db, 9, &backend);
        assert_refused(none, 1, &backend);
        let stats = live.envoy.stats();
        assert!(stats.get(&format!("listener.tcp-{db}.no_filter_chain_match")) >= 4);
        let refused = live.envoy.entries();
        let refused = refused
            .iter()
            .filter(|entry| entry.get("details").as_deref() == Some("filter_chain_not_found"));
        assert!(refused.count() >= 6, "{}", live.envoy.access_log());
    }
}

#[test]
fn an_ipv4_range_written_as_ipv6_is_the_ipv4_range() {
    let backend = Backend::start(b"hi");
    let range = rule("Allow", &["::ffff:127.0.0.4/126"]);
    let all_of_ipv6 = rule("Allow", &["::/0"]);
    let (_live, ports) = start(
        &backend,
        &["db"],
        &[policy("TCPRoute", "db", rules(&[all_of_ipv6, range]))],
    );
    for (last, expected) in [(4, true), (7, true), (3, false), (8, false)] {
        assert_eq!(passes(ports[0], last, b"hi"), expected, "127.0.0.{last}");
    }
}

#[test]
fn what_cannot_be_enforced_on_a_connection_closes_it() {
    let backend = Backend::start(b"hi");
    let everybody = rule("Allow", &["127.0.0.0/8"]);
    let mut header = rule("Allow", &["127.0.0.0/8"]);
    header["principal"]["headers"] = json!([{"name": "x-a", "values": ["b"]}]);
    let country = json!({"action": "Deny", "principal": {"clientIPGeoLocations": [{"country": "DE"}]}});
    let (_live, ports) = start(
        &backend,
        &["feature", "rule", "country", "mixed", "missing"],
        &[
            policy(
                "TCPRoute",
                "feature",
                json!({"csrf": {}, "authorization": {"defaultAction": "Allow"}}),
            ),
            policy("TCPRoute", "rule", rules(&[everybody.clone(), header])),
            policy("TCPRoute", "country", rules(&[everybody.clone(), country])),
            policy("TCPRoute", "mixed", rules(std::slice::from_ref(&everybody))),
            {
                let mut other = policy("TCPRoute", "mixed", rules(std::slice::from_ref(&everybody)));
                other["metadata"]["name"] = "other".into();
                other
            },
            {
                let mut lost = policy("TCPRoute", "missing", rules(&[everybody]));
                lost["spec"]["targetRefs"][0]["sectionName"] = "nowhere".into();
                lost
            },
        ],
    );
    for port in ports {
        assert_refused(port, 1, &backend);
    }
}

#[test]
fn conditions_of_the_gateway_that_connections_cannot_meet_admit_nobody() {
    let backend = Backend::start(b"hi");
    let of_gateway = |spec: Value| policy("Gateway", "public", spec);
    let mut get = rule("Allow", &["127.0.0.0/8"]);
    get["operation"] = json!({"methods": ["GET"]});
    let own = policy("TCPRoute", "own", rules(&[rule("Allow", &["127.0.0.1/32"])]));
    let (live, ports) = start(
        &backend,
        &["db", "own"],
        &[of_gateway(rules(std::slice::from_ref(&get))), own.clone()],
    );
    let [db, of_route] = ports[..] else { unreachable!() };
    assert_refused(db, 1, &backend);
    assert!(passes(of_route, 1, b"hi"), "its own policy decides");
    assert_refused(of_route, 2, &backend);

    let edit = |spec: Value| live.edit("policies.yaml", &manifests::file(&[of_gateway(spec), own.clone()]));
    edit(rules(&[get.clone(), rule("Allow", &["127.0.0.1/32"])]));
    until_passes(db, 1, b"hi", true);
    assert_refused(db, 2, &backend);
    // A Deny rule on more than addresses denies whoever its addresses fit.
    get["action"] = "Deny".into();
    edit(rules(&[get, rule("Allow", &["127.0.0.1/32"])]));
    until_passes(db, 1, b"hi", false);
    edit(json!({"authorization": {"defaultAction": "Allow"}}));
    until_passes(db, 1, b"hi", true);
    edit(json!({"csrf": {}, "authorization": {"defaultAction": "Allow"}}));
    until_passes(db, 1, b"hi", false);
    assert_refused(db, 1, &backend);
    assert!(passes(of_route, 1, b"hi"));
    let told = portcullis(&["status", "-f", &live.folder().display().to_string()]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("ConnectionsRefused"), "{told}");
}

/// A connection that is open already.
struct Open(TcpStream);

impl Open {
    fn new(port: u16, last: u8) -> Self {
        let mut stream = connect(port, last);
        let mut greeted = [0; 2];
        stream.read_exact(&mut greeted).unwrap();
        Self(stream)
    }

    fn lives(&mut self) -> bool {
        let mut back = [0; 4];
        self.0
            .write_all(b"ping")
            .and_then(|()| self.0.read_exact(&mut back))
            .is_ok()
    }
}

#[test]
fn an_edit_decides_the_next_connection_and_ends_those_of_the_rules_that_it_changes() {
    let backend = Backend::start(b"hi");
    let written = |rules_of: &[Value]| manifests::file(&[policy("TCPRoute", "db", rules(rules_of))]);
    let (first, second) = (rule("Allow", &["127.0.0.1/32"]), rule("Allow", &["127.0.0.2/32"]));
    let (live, ports) = start(
        &backend,
        &["db"],
        &[policy("TCPRoute", "db", rules(&[first.clone(), second.clone()]))],
    );
    let db = ports[0];
    let (mut one, mut two) = (Open::new(db, 1), Open::new(db, 2));

    // One more rule ends no connection.
    live.edit(
        "policies.yaml",
        &written(&[first.clone(), second.clone(), rule("Allow", &["127.0.0.3/32"])]),
    );
    until_passes(db, 3, b"hi", true);
    assert!(one.lives() && two.lives());

    // A rule that goes ends its own, within the time in which Envoy drains.
    live.edit("policies.yaml", &written(std::slice::from_ref(&first)));
    until_passes(db, 2, b"hi", false);
    assert_refused(db, 3, &backend);
    wait::until("the revoked connection ends", PATIENCE, || (!two.lives()).then_some(()));
    assert!(one.lives());

    // So does a rule before it that denies.
    let start = Instant::now();
    live.edit("policies.yaml", &written(&[rule("Deny", &["127.0.0.1/32"]), first]));
    until_passes(db, 1, b"hi", false);
    wait::until("the denied connection ends", PATIENCE, || (!one.lives()).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());

    // A policy that goes bad keeps the last good one; one that was never good closes.
    live.edit("policies.yaml", &written(&[second]));
    until_passes(db, 2, b"hi", true);
    live.edit("policies.yaml", "{ not: [yaml");
    thread::sleep(Duration::from_secs(1));
    assert!(passes(db, 2, b"hi"));
    assert_refused(db, 1, &backend);
}

#[test]
fn commands_tell_of_tcp_routes() {
    let backend = Backend::start(b"hi");
    let (live, ports) = start(
        &backend,
        &["db"],
        &[policy("TCPRoute", "db", rules(&[rule("Allow", &["127.0.0.1/32"])]))],
    );
    let folder = live.folder().display().to_string();
    let run = |arguments: &[&str]| {
        let output = portcullis(arguments);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let told = run(&["explain", "route", "shop/db", "-f", &folder]);
    assert!(
        told.contains("TCPRoute rule 0") && told.contains("decided by SecurityPolicy shop/db"),
        "{told}"
    );
    assert!(
        told.contains("authorization (1 rule on addresses, else Deny)"),
        "{told}"
    );
    let url = format!("http://127.0.0.1:{}/", ports[0]);
    let told = run(&["explain", "request", "GET", &url, "-f", &folder]);
    assert!(told.contains("takes TCP connections"), "{told}");
    let told = run(&["check", "-f", &folder]);
    assert!(!told.contains("TCPRoute"), "nothing is wrong: {told}");
    let told = run(&["render", "-f", &folder]);
    assert!(
        told.contains("filter_chain_matcher") && told.contains("tcp_proxy"),
        "{told}"
    );
}
