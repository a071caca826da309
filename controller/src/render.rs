//! `portcullis render`.

use std::path::Path;

use portcullis_engine::document;
use portcullis_gateway::{Configuration, Xds};
use serde_json::{Value, json};

use crate::{
    Answer,
    admin::Admin,
    check,
    cli::{Output, RenderArgs},
    failure::Failure,
    load::{self, Evaluation, Settings},
    print::{self, Style, Tone},
    state, wasm,
};

/// Prints what Envoy is given: the same bytes that `run` serves, with secrets left out.
pub(crate) fn render(args: &RenderArgs, style: &Style) -> Result<Answer, Failure> {
    let texts = check::read(&args.manifests)?;
    let wasm = wasm::locate(args.filter.wasm.as_deref())?;
    let state_dir = state::folder(args.filter.state_dir.as_deref())?;
    let salt_key = state::salt_key(&state_dir)?;
    let settings = Settings::new(&args.manifests, wasm.display().to_string(), salt_key);
    let evaluation = load::evaluate(&texts, &settings);
    for diagnostic in &evaluation.diagnostics {
        print::note(&check::line(diagnostic, |tone, text| style.paint_err(tone, text)));
    }
    if !evaluation.failed_files.is_empty() {
        let files: Vec<_> = evaluation.failed_files.iter().map(String::as_str).collect();
        let text = format!("portcullis: not rendered: mend {} first", files.join(", "));
        print::note(&style.paint_err(Tone::Bad, &text));
        return Ok(Answer::No);
    }
    let wanted = wanted(&evaluation, args.gateway.as_deref())?;
    for port in wanted.iter().flat_map(|configuration| &configuration.listeners) {
        if port.port != port.bound {
            print::note(&style.paint_err(
                Tone::Warning,
                &format!("portcullis: port {} needs root: bound as {}", port.port, port.bound),
            ));
        }
    }
    if args.bootstrap {
        let configuration = only(&wanted)?;
        let socket = args
            .filter
            .xds_socket
            .clone()
            .unwrap_or_else(|| state_dir.join("xds.sock"));
        let socket = std::path::absolute(&socket).unwrap_or(socket);
        let admin = Admin::Tcp(([127, 0, 0, 1], 9901).into());
        // On another machine than Envoy's the filter need not be there.
        let documents = wasm::verify(&wasm).map_or_else(|_| vec![document::VERSION], |declared| declared.documents);
        let xds = match (&args.xds_address, &args.xds_credentials) {
            (Some(address), Some(credentials)) => Xds::Tls {
                host: address.host.clone(),
                port: address.port,
                credentials: credentials.display().to_string(),
            },
            _ => Xds::Socket(socket.display().to_string()),
        };
        style.value(&bootstrap_value(&configuration.gateway, xds, &admin, &wasm, &documents))?;
    } else if args.snippet {
        snippet(args, only(&wanted)?, style)?;
    } else {
        let shown: Vec<_> = wanted.iter().map(|configuration| show(configuration)).collect();
        match (&args.gateway, shown.as_slice()) {
            (Some(_), [one]) => style.value(one)?,
            _ => style.value(&shown)?,
        }
    }
    Ok(Answer::Yes)
}

/// The configurations to print.
fn wanted<'a>(evaluation: &'a Evaluation, gateway: Option<&str>) -> Result<Vec<&'a Configuration>, Failure> {
    let all = &evaluation.translation.configurations;
    let names = || {
        let names: Vec<_> = all.iter().map(|configuration| configuration.gateway.as_str()).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let wanted: Vec<_> = all
        .iter()
        .filter(|configuration| gateway.is_none_or(|gateway| configuration.gateway == gateway))
        .collect();
    match (wanted.is_empty(), gateway) {
        (true, Some(gateway)) => Err(Failure::new(
            format!("no Gateway {gateway} of this controller is served"),
            format!("served are: {}", names()),
        )),
        (true, None) => Err(Failure::new(
            "no Gateway of this controller is served",
            "add a Gateway whose GatewayClass names it, or give --controller-name",
        )),
        _ => Ok(wanted),
    }
}

/// The one Gateway of an output that can hold only one.
fn only<'a>(wanted: &[&'a Configuration]) -> Result<&'a Configuration, Failure> {
    match wanted {
        [one] => Ok(one),
        _ => {
            let names: Vec<_> = wanted
                .iter()
                .map(|configuration| configuration.gateway.as_str())
                .collect();
            Err(Failure::new(
                format!("there are several Gateways: {}", names.join(", ")),
                "choose one with --gateway",
            ))
        }
    }
}

fn show(configuration: &Configuration) -> Value {
    let resources: Vec<_> = configuration.resources.iter().map(portcullis_gateway::show).collect();
    json!({"gateway": configuration.gateway, "resources": resources})
}

/// Prints the static configuration, or writes it with its secrets into a file of mode 0600.
fn snippet(args: &RenderArgs, configuration: &Configuration, style: &Style) -> Result<(), Failure> {
    let secrets = args.show_secrets.is_some();
    let value = portcullis_gateway::snippet(configuration, secrets);
    let Some(path) = &args.show_secrets else {
        print::note(&style.paint_err(
            Tone::Warning,
            "portcullis: secrets are left out, so policies refuse their routes with 500; --show-secrets FILE writes a whole one",
        ));
        return style.value(&value);
    };
    let text = match style.output {
        Output::Json => serde_json::to_string_pretty(&value).map_err(|error| error.to_string()),
        Output::Text | Output::Yaml => print::yaml(&value),
    };
    let text = text.map_err(|error| Failure::new(format!("cannot be printed: {error}"), ""))?;
    state::write_private(path, format!("{}\n", text.trim_end()).as_bytes()).map_err(|error| {
        Failure::new(
            format!("{}: {error}", path.display()),
            "give --show-secrets a file in a folder that exists",
        )
    })?;
    print::note(&format!(
        "portcullis: {} holds every secret; only this user may read it",
        path.display()
    ));
    Ok(())
}

fn bootstrap_value(gateway: &str, xds: Xds, admin: &Admin, wasm: &Path, documents: &[u32]) -> Value {
    let admin = match admin {
        Admin::Pipe(path) => portcullis_gateway::Admin::Pipe(path.display().to_string()),
        Admin::Tcp(address) => portcullis_gateway::Admin::Tcp(*address),
    };
    portcullis_gateway::bootstrap(&portcullis_gateway::BootstrapOptions {
        gateway: gateway.to_owned(),
        xds,
        admin,
        wasm: wasm.display().to_string(),
        documents: documents.to_vec(),
    })
}

/// The bootstrap of a Gateway's Envoy, as a file that Envoy reads.
///
/// # Errors
///
/// It cannot be written as text.
pub(crate) fn bootstrap(
    gateway: &str,
    socket: &Path,
    admin: &Admin,
    wasm: &Path,
    documents: &[u32],
) -> Result<String, Failure> {
    let xds = Xds::Socket(socket.display().to_string());
    print::yaml(&bootstrap_value(gateway, xds, admin, wasm, documents))
        .map_err(|error| Failure::new(format!("the bootstrap cannot be printed: {error}"), ""))
}
