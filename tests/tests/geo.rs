//! Rules on the place of a client, with databases that Envoy itself reads: who is where, that nobody can say it himself, and
//! that nobody gets in where no database can tell.

use std::{fs, net::SocketAddr, path::Path};

use portcullis_e2e::{
    backend::Backend,
    client::{Connection, Request, Response},
    controller,
    live::{Live, until_status},
    manifests,
    mmdb::Database,
    scratch::Scratch,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const HOST: &str = "api.example.com";
/// In a country that is let in.
const HOME: &str = "127.0.0.2";
/// In one that is not.
const ABROAD: &str = "127.0.0.3";
/// In a city that is let in.
const TOWN: &str = "127.0.0.4";
/// In a country that is let in, behind Tor.
const HIDDEN: &str = "127.0.0.5";
/// Of a network that is let in.
const PARTNER: &str = "127.0.0.6";
/// In no database at all.
const UNKNOWN: &str = "127.0.0.9";
/// As a client writes who it is.
const SPELLINGS: [&str; 4] = [
    "x-portcullis-geo-country",
    "X-Portcullis-Geo-Country",
    "X-PORTCULLIS-GEO-COUNTRY",
    "x-portcullis-geo-cOuNtRy",
];

fn city(country: &str, region: &str, name: &str) -> Value {
    json!({
        "country": {"iso_code": country}, "subdivisions": [{"iso_code": region}, {"iso_code": "ZZ"}],
        "city": {"names": {"de": "Irgendwo", "en": name}},
    })
}

/// Writes the databases; gives the fields of `maxMind`.
fn databases(folder: &Path) -> Value {
    let cities = Database::default()
        .network(HOME, 32, &city("DE", "BE", "Berlin"))
        .network(ABROAD, 32, &city("XX", "1", "Nowhere"))
        .network(TOWN, 32, &city("XX", "9", "Zürich"))
        .network(HIDDEN, 32, &city("DE", "BY", "Munich"))
        .network("192.0.2.0", 24, &city("DE", "BE", "Berlin"))
        .network("2001:db8::", 32, &city("DE", "BE", "Berlin"))
        .network("198.51.100.0", 24, &city("XX", "1", "Nowhere"));
    let systems = Database::default().network(PARTNER, 32, &json!({"autonomous_system_number": 64500}));
    let providers = Database::default().network(PARTNER, 32, &json!({"isp": "Example Net"}));
    let hidden = Database::default().network(HIDDEN, 32, &json!({"is_anonymous": true, "is_tor_exit_node": true}));
    let write = |name: &str, bytes: Vec<u8>| {
        let file = folder.join(name);
        fs::write(&file, bytes).expect("the database can be written");
        json!({"local": {"path": file}})
    };
    json!({
        "cityDbSource": write("city.mmdb", cities.file("GeoLite2-City")),
        "asnDbSource": write("asn.mmdb", systems.file("GeoLite2-ASN")),
        "ispDbSource": write("isp.mmdb", providers.file("GeoIP2-ISP")),
        "anonymousIpDbSource": write("anonymous.mmdb", hidden.file("GeoIP2-Anonymous-IP")),
    })
}

/// An object that the Gateway of these tests names in its parameters.
fn proxy(max_mind: &Value) -> Value {
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy",
        "metadata": {"name": "world", "namespace": "edge"},
        "spec": {"geoIP": {"provider": {"type": "MaxMind", "maxMind": max_mind}}},
    })
}

fn gateway(listeners: &[Value], has_parameters: bool) -> Value {
    let mut gateway = manifests::gateway(listeners);
    if has_parameters {
        let parameters = json!({"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "world"});
        gateway["spec"]["infrastructure"] = json!({"parametersRef": parameters});
    }
    gateway
}

/// How a listener of the Gateway finds out its clients' addresses.
fn detection(listener: &str, detection: &Value) -> Value {
    let target = json!({
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "sectionName": listener,
    });
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "ClientTrafficPolicy",
        "metadata": {"name": listener, "namespace": "edge"},
        "spec": {"targetRefs": [target], "clientIPDetection": detection},
    })
}

fn rules() -> Value {
    let place = |action: &str, place: Value| json!({"action": action, "principal": {"clientIPGeoLocations": [place]}});
    json!({"authorization": {"rules": [
        place("Deny", json!({"anonymous": {"isTor": true}})),
        place("Allow", json!({"country": "de", "anonymous": {"isVPN": false}})),
        place("Allow", json!({"region": "9", "city": "zürich"})),
        place("Allow", json!({"asn": 64500, "isp": "example net"})),
    ]}})
}

/// A client of one address on one of the gateway's ports.
fn client(port: u16, from: &str) -> Connection {
    Connection::open_from(
        SocketAddr::from(([127, 0, 0, 1], port)),
        from.parse().expect("an address"),
    )
}

fn send(port: u16, from: &str, request: &Request) -> Response {
    client(port, from).send(request)
}

fn get() -> Request {
    Request::get(HOST, "/")
}

fn start(file: &str, ports: &[u16]) -> Live {
    let mut live = Live::start(&[("all.yaml", file.to_owned())], ports);
    live.envoy = live.envoy.beside_manifests("where a client is stands in databases");
    live
}

/// The header lines of the last request that tell a place.
fn told(backend: &Backend) -> Vec<String> {
    let names = backend
        .last()
        .headers
        .into_iter()
        .map(|(name, _)| name.to_ascii_lowercase());
    names.filter(|name| name.contains("portcullis")).collect()
}

#[test]
fn a_client_is_where_the_databases_say() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let (peer, hops, proxies) = (
        controller::free_port(),
        controller::free_port(),
        controller::free_port(),
    );
    let listeners = [
        manifests::http_listener("peer", peer, None),
        manifests::http_listener("hops", hops, None),
        manifests::http_listener("proxies", proxies, None),
    ];
    let objects = [
        manifests::gateway_class(),
        gateway(&listeners, true),
        proxy(&databases(scratch.path())),
        detection("hops", &json!({"xForwardedFor": {"numTrustedHops": 2}})),
        detection("proxies", &json!({"xForwardedFor": {"trustedCIDRs": ["127.0.0.0/8"]}})),
        manifests::backend("orders", backend.address()),
        manifests::route("orders", &[HOST], "/", "orders"),
        manifests::policy("orders", rules()),
        manifests::route("open", &["open.example.com"], "/", "orders"),
    ];
    let live = start(&manifests::file(&objects), &[peer, hops, proxies]);
    until_status(&mut client(peer, HOME), &get(), 200, PATIENCE);

    for (from, status) in [
        (HOME, 200),
        (TOWN, 200),
        (PARTNER, 200),
        (ABROAD, 403),
        (HIDDEN, 403),
        (UNKNOWN, 403),
    ] {
        let before = backend.count();
        assert_eq!(send(peer, from, &get()).status, status, "{from}");
        let reached = usize::from(status == 200);
        assert_eq!(backend.count(), before + reached, "{from}");
        if status == 200 {
            assert_eq!(told(&backend), [""; 0], "{from}");
        }
    }

    // Nobody says himself where he is, nor that he hides nothing.
    for name in SPELLINGS {
        let once = get().header(name, "DE");
        let twice = once.clone().header(name, "DE");
        let named = once.clone().header("connection", "x-portcullis-geo-country");
        let unhidden = once
            .clone()
            .header("x-portcullis-geo-tor", "false")
            .header("x-portcullis-geo-vpn", "false");
        for request in [once, twice, named, unhidden] {
            for from in [ABROAD, HIDDEN, UNKNOWN] {
                assert_eq!(send(peer, from, &request).status, 403, "{from} {request:?}");
            }
            // Nor does it harm him, and no backend hears of it.
            assert_eq!(send(peer, HOME, &request).status, 200, "{request:?}");
            assert_eq!(told(&backend), [""; 0], "{request:?}");
        }
    }
    for name in ["x_portcullis_geo_country", "x-portcullis-geo_country"] {
        assert_eq!(send(peer, UNKNOWN, &get().header(name, "DE")).status, 400, "{name}");
    }
    let trailers = b"POST / HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\ntrailer: x-portcullis-geo-country\r\n\r\n\
        1\r\na\r\n0\r\nx-portcullis-geo-country: DE\r\n\r\n";
    let answer = client(peer, UNKNOWN).exchange(trailers, false).expect("an answer");
    assert_eq!(answer.status, 403);

    // A route without rules on places tells no backend either.
    let open = Request::get("open.example.com", "/").header("x-portcullis-geo-country", "FR");
    assert_eq!(send(peer, HOME, &open).status, 200);
    assert_eq!(told(&backend), [""; 0]);

    // The address is the one that rules on addresses see: the second from the right, and not the one that Envoy appends.
    let forwarded = |value: &str| get().header("x-forwarded-for", value);
    for (value, status) in [
        ("192.0.2.7, 198.51.100.7", 200),
        ("198.51.100.7, 192.0.2.7", 403),
        ("192.0.2.7, 198.51.100.7, 198.51.100.8", 403),
        ("198.51.100.7, 192.0.2.7, 198.51.100.8", 200),
        ("2001:db8::1, 198.51.100.7", 200),
        ("192.0.2.7", 403),
        ("nobody, 192.0.2.7", 403),
    ] {
        assert_eq!(send(hops, HOME, &forwarded(value)).status, status, "{value}");
    }
    // Without the word of a proxy nobody is anywhere, not even the proxy.
    assert_eq!(send(hops, HOME, &get()).status, 403);
    for (value, status) in [
        ("198.51.100.7, 192.0.2.7", 200),
        ("192.0.2.7, 198.51.100.7", 403),
        ("192.0.2.7, 127.0.0.8", 200),
    ] {
        assert_eq!(send(proxies, HOME, &forwarded(value)).status, status, "{value}");
    }
    live.assert_listeners_untouched();
}

#[test]
fn nobody_is_let_in_where_no_database_can_tell() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let port = controller::free_port();
    let listeners = [manifests::http_listener("http", port, None)];
    let file = |parameters: bool, max_mind: &Value, more: &[Value]| {
        let mut objects = vec![
            manifests::gateway_class(),
            gateway(&listeners, parameters),
            proxy(max_mind),
            manifests::backend("orders", backend.address()),
            manifests::route("orders", &[HOST], "/", "orders"),
        ];
        objects.extend_from_slice(more);
        manifests::file(&objects)
    };
    let whole = databases(scratch.path());
    let policy = manifests::policy("orders", rules());
    let live = start(&file(false, &whole, &[]), &[port]);
    let forged = get()
        .header("x-portcullis-geo-country", "DE")
        .header("x-portcullis-geo-tor", "false");
    // Connections of the listener as it was, which goes on with them.
    let mut kept = client(port, UNKNOWN);
    until_status(&mut kept, &forged, 200, PATIENCE);

    // The Gateway has no databases: the policy is invalid.
    live.edit("all.yaml", &file(false, &whole, std::slice::from_ref(&policy)));
    until_status(&mut kept, &forged, 500, PATIENCE);

    // It should have, but one is not there: Envoy keeps the listener that it had, on which nobody can be looked up.
    let mut missing = whole.clone();
    missing["cityDbSource"]["local"]["path"] = scratch.join("missing.mmdb").display().to_string().into();
    live.edit("all.yaml", &file(true, &missing, std::slice::from_ref(&policy)));
    until_status(&mut kept, &forged, 503, PATIENCE);
    for from in [HOME, UNKNOWN] {
        assert_eq!(send(port, from, &forged).status, 503, "{from}");
    }
    let told = "a database of places cannot be read";
    assert!(live.controller.output().contains(told), "{}", live.controller.output());

    // Now it has: new connections are looked up, and whoever is kept on the old listener is not believed.
    live.edit("all.yaml", &file(true, &whole, std::slice::from_ref(&policy)));
    wait::until("clients are looked up", PATIENCE, || {
        (send(port, HOME, &get()).status == 200).then_some(())
    });
    assert_eq!(send(port, UNKNOWN, &forged).status, 403);
    // Envoy may have closed it.
    if let Ok(response) = kept.try_send(&forged) {
        assert_eq!(response.status, 503);
    }
}
