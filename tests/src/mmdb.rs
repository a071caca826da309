//! Databases of places in the form of `MaxMind` (version 2.0 of its specification), small ones.

use std::{fs, net::IpAddr, path::Path};

use serde_json::{Map, Value, json};

/// What separates the tree from the data.
const SEPARATOR: [u8; 16] = [0; 16];
/// What the description of a file begins with.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// Where a branch of the tree leads.
#[derive(Clone, Copy, Debug)]
enum Branch {
    Nowhere,
    Node(usize),
    /// To an entry, by its place among the data.
    Entry(usize),
}

/// A database that is being written: networks, none inside another, and what is said of them.
#[derive(Debug)]
pub struct Database {
    nodes: Vec<[Branch; 2]>,
    data: Vec<u8>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            nodes: vec![[Branch::Nowhere; 2]],
            data: Vec::new(),
        }
    }
}

impl Database {
    /// Says something of a network: a map of texts, numbers, flags, lists and maps.
    ///
    /// # Panics
    /// If an address of it stands in the database already.
    #[must_use]
    pub fn network(mut self, address: &str, length: usize, entry: &Value) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        // An IPv4 address is the end of an IPv6 address of zeros.
        let (bits, length) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), length + 96),
            IpAddr::V6(address) => (u128::from(address), length),
        };
        let place = self.data.len();
        encode(entry, &mut self.data);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                assert!(
                    matches!(self.nodes[node][side], Branch::Nowhere),
                    "{address} stands twice"
                );
                self.nodes[node][side] = Branch::Entry(place);
                break;
            }
            node = match self.nodes[node][side] {
                Branch::Node(next) => next,
                Branch::Nowhere => {
                    self.nodes.push([Branch::Nowhere; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Branch::Node(next);
                    next
                }
                Branch::Entry(_) => panic!("{address} stands inside another network"),
            };
        }
        self
    }

    /// The bytes of the file; `kind` is as in `GeoLite2-City`.
    #[must_use]
    pub fn file(&self, kind: &str) -> Vec<u8> {
        let count = self.nodes.len();
        let mut file = Vec::new();
        for branch in self.nodes.iter().flatten() {
            let record = match branch {
                Branch::Nowhere => count,
                Branch::Node(node) => *node,
                Branch::Entry(place) => count + SEPARATOR.len() + place,
            };
            let record = u32::try_from(record).expect("a small database").to_be_bytes();
            assert_eq!(record[0], 0, "a small database");
            file.extend_from_slice(&record[1..]);
        }
        file.extend_from_slice(&SEPARATOR);
        file.extend_from_slice(&self.data);
        file.extend_from_slice(MARKER);
        let count = u64::try_from(count).expect("a small database");
        // Each with the type that readers ask for: 16 bits are 5, 32 are 6, 64 are 9.
        let numbers = [
            ("node_count", 6, count),
            ("record_size", 5, 24),
            ("ip_version", 5, 6),
            ("binary_format_major_version", 5, 2),
            ("binary_format_minor_version", 5, 0),
            ("build_epoch", 9, 1_790_000_000),
        ];
        let texts = json!({"database_type": kind, "languages": ["en"], "description": {"en": "made by a test"}});
        let texts = texts.as_object().expect("a map");
        control(7, numbers.len() + texts.len(), &mut file);
        for (name, value) in texts {
            encode(&Value::from(name.as_str()), &mut file);
            encode(value, &mut file);
        }
        for (name, kind, number) in numbers {
            encode(&Value::from(name), &mut file);
            let bytes = number.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            control(kind, bytes.len(), &mut file);
            file.extend_from_slice(bytes);
        }
        file
    }
}

/// Where the examples' manifests look for databases.
const EXAMPLES: &str = "/var/lib/geoip";

/// Writes databases in which the clients of these PolicyTests are where the tests say, and leads an example's manifests to them.
///
/// # Panics
/// If a test is none, or two of its cases have one client at two places.
#[must_use]
pub fn placed(manifests: &str, tests: &[Value], folder: &Path) -> String {
    if !manifests.contains(EXAMPLES) {
        return manifests.to_owned();
    }
    let mut cities = Database::default();
    let mut hidden = Database::default();
    for case in tests.iter().flat_map(|test| test["cases"].as_array().expect("cases")) {
        let request = &case["request"];
        let told = request["geo"].as_object().cloned().unwrap_or_default();
        if told.is_empty() {
            continue;
        }
        let from = request["from"].as_str().expect("who has a place has an address");
        let length = if from.contains(':') { 128 } else { 32 };
        let flags: Map<String, Value> = FLAGS
            .iter()
            .filter_map(|(name, flag)| Some(((*flag).to_owned(), told.get(*name)?.clone())))
            .collect();
        let text = |name: &str| told.get(name).cloned();
        let mut place = Map::new();
        place.extend(text("country").map(|code| ("country".to_owned(), json!({"iso_code": code}))));
        place.extend(text("region").map(|code| ("subdivisions".to_owned(), json!([{"iso_code": code}]))));
        place.extend(text("city").map(|name| ("city".to_owned(), json!({"names": {"en": name}}))));
        assert_eq!(
            told.len(),
            place.len() + flags.len(),
            "{told:?}: only cities and anonymous addresses are written"
        );
        cities = cities.network(from, length, &place.into());
        if !flags.is_empty() {
            hidden = hidden.network(from, length, &flags.into());
        }
    }
    let write = |name: &str, bytes: Vec<u8>| {
        fs::write(folder.join(name), bytes).expect("the database can be written");
    };
    write("GeoLite2-City.mmdb", cities.file("GeoLite2-City"));
    write("GeoIP2-Anonymous-IP.mmdb", hidden.file("GeoIP2-Anonymous-IP"));
    manifests.replace(EXAMPLES, &folder.display().to_string())
}

/// What a PolicyTest calls the ways to hide, and a database.
const FLAGS: [(&str, &str); 5] = [
    ("anonymous", "is_anonymous"),
    ("vpn", "is_anonymous_vpn"),
    ("hosting", "is_hosting_provider"),
    ("tor", "is_tor_exit_node"),
    ("proxy", "is_public_proxy"),
];

/// Writes a value; every number has 32 bits.
fn encode(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            control(2, text.len(), into);
            into.extend_from_slice(text.as_bytes());
        }
        Value::Number(number) => {
            let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
            let bytes = number.expect("a number of 32 bits").to_be_bytes();
            control(6, bytes.len(), into);
            into.extend_from_slice(&bytes);
        }
        Value::Object(fields) => {
            control(7, fields.len(), into);
            for (name, value) in fields {
                encode(&Value::from(name.as_str()), into);
                encode(value, into);
            }
        }
        Value::Array(items) => {
            control(11, items.len(), into);
            items.iter().for_each(|item| encode(item, into));
        }
        Value::Bool(flag) => control(14, usize::from(*flag), into),
        Value::Null => panic!("there is no null"),
    }
}

/// Writes type and length.
fn control(kind: u8, length: usize, into: &mut Vec<u8>) {
    let (first, further) = match u8::try_from(length) {
        Ok(length @ ..29) => (length, None),
        Ok(length) => (29, Some(length - 29)),
        Err(_) => panic!("short values only"),
    };
    if kind > 7 {
        into.extend_from_slice(&[first, kind - 7]);
    } else {
        into.push(kind << 5 | first);
    }
    into.extend(further);
}
