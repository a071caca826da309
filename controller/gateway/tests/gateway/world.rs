//! Manifests to a translation, with fixed settings.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_attachment::{
    binding,
    effective::{self, Attachment, EffectivePolicy},
};
use portcullis_gateway::{Options, Translation, translate};

pub(crate) const CONTROLLER: &str = "portcullis.dev/gateway-controller";

/// Everything that a test looks at.
pub(crate) struct World {
    pub(crate) attachment: Attachment,
    pub(crate) translation: Translation,
    pub(crate) none: Arc<EffectivePolicy>,
}

/// Translates manifests. A comment `# override NS/NAME=HOST:PORT` names an endpoint, `# shift N` a port shift, `# controller in NS`
/// the controller's own namespace.
pub(crate) fn world(manifests: &str, wasm: &str) -> World {
    let loaded = portcullis_manifest::load(&[("in.yaml".to_owned(), manifests.to_owned())]);
    let errors: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|diagnostic| format!("{diagnostic:?}"))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let settings = effective::Options {
        controller_name: CONTROLLER.to_owned(),
        salt_key: [7; 32],
    };
    let bindings = binding::bind(&loaded.snapshot, CONTROLLER);
    let attachment = effective::attach(&loaded.snapshot, &bindings, &settings);
    let none = effective::none(&settings);
    let options = Options {
        controller_name: CONTROLLER.to_owned(),
        controller_namespace: directives(manifests, "# controller in ").next().map(str::to_owned),
        wasm: wasm.to_owned(),
        privileged_port_shift: directives(manifests, "# shift ")
            .next()
            .map_or(0, |shift| shift.parse().unwrap()),
        backend_overrides: directives(manifests, "# override ")
            .map(|line| {
                let (name, endpoint) = line.split_once('=').unwrap();
                (name.to_owned(), endpoint.to_owned())
            })
            .collect::<BTreeMap<_, _>>(),
        system_trust: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
        key_sets: Arc::default(),
        access_log: directives(manifests, "# access log ").next().map(str::to_owned),
        none: Arc::clone(&none),
    };
    let translation = translate(&loaded.snapshot, &bindings, &attachment, &options);
    World {
        attachment,
        translation,
        none,
    }
}

fn directives<'a>(manifests: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    manifests.lines().filter_map(move |line| line.strip_prefix(prefix))
}
