//! What an author writes as authorities of clients cannot make Envoy refuse a listener.

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_gateway::snippet;
use serde_json::Value;

use crate::{
    envoy::{Scratch, validate},
    world::world,
};

const CERTIFICATE: &str = include_str!("../../testdata/certificates/ec.crt");
const KEY: &str = include_str!("../../testdata/certificates/ec.key");

/// The whole configuration of a Gateway that asks for certificates of the authorities in a text.
fn configuration(authorities: &str, wasm: &str) -> Option<Value> {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let manifests = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: portcullis}}
spec: {{controllerName: portcullis.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: edge}}
spec:
  gatewayClassName: portcullis
  tls: {{frontend: {{default: {{validation: {{caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]}}}}}}}}
  listeners:
  - {{name: a, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca, namespace: edge}}
data:
  ca.crt: |
{}---
apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: edge}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(authorities),
        indented(CERTIFICATE),
        indented(KEY)
    );
    let world = world(&manifests, wasm);
    let configuration = world.translation.configurations.first()?;
    let value = snippet(configuration, true);
    value.to_string().contains("trusted_ca").then_some(value)
}

/// Where the authorities stand.
fn trusted(value: &mut Value) -> Option<&mut Value> {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("trusted_ca") {
                fields.get_mut("trusted_ca")?.get_mut("inline_bytes")
            } else {
                fields.values_mut().find_map(trusted)
            }
        }
        Value::Array(items) => items.iter_mut().find_map(trusted),
        _ => None,
    }
}

/// Each byte of a certificate is changed in several ways: whatever is passed on then, Envoy takes.
#[test]
fn envoy_takes_every_authority_that_is_passed_on() {
    let scratch = Scratch::new("authorities");
    let wasm = scratch.path("filter.wasm");
    let mut whole = configuration(CERTIFICATE, &wasm).unwrap();
    let der = STANDARD
        .decode(
            CERTIFICATE
                .lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap();
    let (mut passed, mut refused) = (vec![CERTIFICATE.as_bytes().to_vec(); 2], 0);
    for at in 0..der.len() {
        for change in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[at] ^= change;
            let text = format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                STANDARD.encode(changed)
            );
            match configuration(&text, &wasm) {
                Some(mut value) => {
                    let sent = trusted(&mut value).and_then(|text| STANDARD.decode(text.as_str()?).ok());
                    passed.push(sent.unwrap());
                }
                None => refused += 1,
            }
        }
    }
    // Keys and signatures are most of it, and any bytes will do there.
    assert!(passed.len() > 500 && refused > 500, "{} {refused}", passed.len());
    let mut taken = |certificates: &[Vec<u8>]| {
        *trusted(&mut whole).unwrap() = STANDARD.encode(certificates.concat()).into();
        validate(&scratch, "authorities", &whole)
    };
    // Envoy does read them: one with garbage for a time and a revocation list are each refused.
    let mut garbage = der;
    let at = garbage.windows(6).position(|bytes| bytes == b"261125").unwrap();
    garbage[at..at + 6].copy_from_slice(b"a time");
    for (label, content) in [("CERTIFICATE", garbage), ("X509 CRL", vec![0x30, 0])] {
        let text = format!(
            "{CERTIFICATE}-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(content)
        );
        assert!(configuration(&text, &wasm).is_none(), "{label}");
        assert!(taken(&[text.into_bytes()]).is_err(), "{label}");
    }
    let mut certificates = passed.as_slice();
    let Err(mut why) = taken(certificates) else { return };
    while certificates.len() > 1 {
        let (one, other) = certificates.split_at(certificates.len() / 2);
        (certificates, why) = match taken(one) {
            Err(why) => (one, why),
            Ok(()) => (other, taken(other).err().unwrap_or(why)),
        };
    }
    panic!("{}\n{why}", String::from_utf8_lossy(&certificates.concat()));
}
