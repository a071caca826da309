//! Throw-away certificates, made by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::scratch::Scratch;

/// A self-signed certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The file with the certificate, which is its own authority.
    pub file: PathBuf,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: String,
}

impl Certificate {
    /// Makes one for these DNS names.
    ///
    /// # Panics
    /// If openssl is missing.
    #[must_use]
    pub fn new(scratch: &Scratch, name: &str, hosts: &[&str]) -> Self {
        let (file, key) = (
            scratch.join(&format!("{name}.crt")),
            scratch.join(&format!("{name}.key")),
        );
        let names: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=portcullis test"]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-addext", &format!("subjectAltName={}", names.join(","))]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&file);
        let output = command.output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self {
            certificate: read(&file),
            key: read(&key),
            file,
        }
    }
}

/// An authority that signs certificates of clients.
#[derive(Debug)]
pub struct Authority {
    /// Its own certificate.
    pub certificate: Certificate,
    key: PathBuf,
}

/// A certificate of a client and its key.
#[derive(Clone, Debug)]
pub struct Client {
    /// The file with the certificate.
    pub file: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    #[must_use]
    pub fn new(scratch: &Scratch, name: &str) -> Self {
        Self {
            certificate: Certificate::new(scratch, name, &[name]),
            key: scratch.join(&format!("{name}.key")),
        }
    }

    /// Signs a certificate with the subject `CN=<name>,O=shop` and these names, valid for so many days from now, which may
    /// be less than none.
    ///
    /// # Panics
    /// If openssl is missing.
    #[must_use]
    pub fn sign(&self, scratch: &Scratch, name: &str, names: &str, days: i32) -> Client {
        let file = |ending: &str| scratch.join(&format!("{name}.{ending}"));
        let (request, extensions) = (
            file("csr"),
            scratch.write(&format!("{name}.ext"), &format!("subjectAltName={names}\n")),
        );
        let client = Client {
            file: file("crt"),
            key: file("key"),
        };
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-new",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]);
        command.args(["-subj", &format!("/O=shop/CN={name}")]);
        command.arg("-keyout").arg(&client.key).arg("-out").arg(&request);
        run(command);
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-days", &days.to_string(), "-set_serial", "7"]);
        command
            .arg("-CA")
            .arg(&self.certificate.file)
            .arg("-CAkey")
            .arg(&self.key);
        command.arg("-in").arg(&request).arg("-extfile").arg(&extensions);
        command.arg("-out").arg(&client.file);
        run(command);
        client
    }
}

/// The options by which `portcullis explain request` is told of a certificate in a file.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn options(file: &Path) -> Vec<String> {
    let mut command = Command::new("openssl");
    command.args([
        "x509",
        "-noout",
        "-subject",
        "-nameopt",
        "RFC2253",
        "-ext",
        "subjectAltName",
        "-in",
    ]);
    let text = run({
        command.arg(file);
        command
    });
    let names: Vec<&str> = text.lines().flat_map(|line| line.trim().split(", ")).collect();
    let first = |prefix: &str| names.iter().find_map(|name| name.strip_prefix(prefix));
    let subject = text.lines().find_map(|line| line.strip_prefix("subject="));
    let told = [
        ("--client-cert-uri", first("URI:")),
        ("--client-cert-dns", first("DNS:")),
        ("--client-cert-subject", subject),
    ];
    let told = told
        .into_iter()
        .filter_map(|(option, value)| Some([option.to_owned(), value?.to_owned()]));
    told.flatten().collect()
}

fn run(mut command: Command) -> String {
    let output = command.output().expect("openssl runs");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
