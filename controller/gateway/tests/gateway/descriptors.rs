//! The descriptors that resources are printed by are those of the generated types' own sources.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use prost_reflect::{
    prost::Message,
    prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions},
};

/// The files that define the messages that a configuration is made of.
const ROOTS: [&str; 28] = [
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/clusters/dns/v3/dns_cluster.proto",
    "envoy/extensions/filters/http/geoip/v3/geoip.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/wasm/v3/wasm.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/geoip_providers/maxmind/v3/maxmind.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.proto",
    "envoy/extensions/http/original_ip_detection/xff/v3/xff.proto",
    "envoy/extensions/matching/common_inputs/network/v3/network_inputs.proto",
    "envoy/extensions/matching/input_matchers/ip/v3/ip.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "google/protobuf/any.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/wrappers.proto",
];

/// Files that only annotate others.
fn annotates(file: &str) -> bool {
    [
        "envoy/annotations/",
        "udpa/annotations/",
        "validate/",
        "xds/annotations/",
        "google/protobuf/descriptor.proto",
    ]
    .iter()
    .any(|prefix| file.starts_with(prefix))
}

/// Run with `UPDATE_DESCRIPTORS=1` after a change of envoy-types or of the roots.
#[test]
fn descriptors_are_those_of_the_generated_types() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/show/envoy.binpb");
    let all = std::fs::read(types()).expect("envoy-types ships its descriptors");
    let wanted = reduce(FileDescriptorSet::decode(all.as_slice()).expect("descriptors decode"));
    if std::env::var_os("UPDATE_DESCRIPTORS").is_some() {
        std::fs::write(&committed, &wanted).expect("the descriptors can be written");
    }
    let found = std::fs::read(&committed).expect("the descriptors are committed");
    assert!(
        found == wanted,
        "out of date: run this test once with UPDATE_DESCRIPTORS=1"
    );
}

fn reduce(all: FileDescriptorSet) -> Vec<u8> {
    let mut wanted: BTreeSet<String> = ROOTS.iter().map(|root| (*root).to_owned()).collect();
    let mut queue: Vec<String> = wanted.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        let file = all
            .file
            .iter()
            .find(|file| file.name() == name)
            .unwrap_or_else(|| panic!("no file {name}"));
        for dependency in file.dependency.iter().filter(|dependency| !annotates(dependency)) {
            if wanted.insert(dependency.clone()) {
                queue.push(dependency.clone());
            }
        }
    }
    let file = all
        .file
        .into_iter()
        .filter(|file| wanted.contains(file.name()))
        .map(strip)
        .collect();
    FileDescriptorSet { file }.encode_to_vec()
}

/// Leaves what printing needs: fields and types.
fn strip(mut file: FileDescriptorProto) -> FileDescriptorProto {
    file.source_code_info = None;
    file.options = None;
    file.dependency.retain(|dependency| !annotates(dependency));
    file.public_dependency.clear();
    file.weak_dependency.clear();
    file.service.clear();
    file.extension.clear();
    file.message_type.iter_mut().for_each(strip_message);
    file.enum_type.iter_mut().for_each(strip_enum);
    file
}

fn strip_message(message: &mut DescriptorProto) {
    message.options = message
        .options
        .take()
        .filter(|options| options.map_entry())
        .map(|_| MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        });
    for field in &mut message.field {
        field.options = None;
    }
    for choice in &mut message.oneof_decl {
        choice.options = None;
    }
    message.extension.clear();
    message.reserved_name.clear();
    message.reserved_range.clear();
    message.nested_type.iter_mut().for_each(strip_message);
    message.enum_type.iter_mut().for_each(strip_enum);
}

fn strip_enum(r#enum: &mut EnumDescriptorProto) {
    r#enum.options = None;
    r#enum.reserved_name.clear();
    r#enum.reserved_range.clear();
    for value in &mut r#enum.value {
        value.options = None;
    }
}

/// `types.bin` of the envoy-types that this workspace is locked to.
fn types() -> PathBuf {
    let compiler = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&compiler.stdout).into_owned();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host");
    // Crates of other platforms may never have been downloaded.
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let manifest = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("envoy-types is a dependency");
    Path::new(manifest).with_file_name("src/generated/types.bin")
}
