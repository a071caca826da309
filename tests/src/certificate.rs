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

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
