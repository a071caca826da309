//! The command line: what may be typed, and nothing about what it does.

mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use portcullis_gateway::lookup::{ClientCertificate, Shown};

pub(crate) use self::values::{BackendOverride, HeaderLine, HostPort, Ready, Told};
use crate::{drain::DrainArgs, unpack::UnpackArgs};

/// The controller's name unless the command line says otherwise.
pub(crate) const CONTROLLER_NAME: &str = "portcullis.dev/gateway-controller";

/// Enforces SecurityPolicies of the Gateway API inside stock Envoy.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    disable_help_subcommand = true,
    max_term_width = 120,
    after_help = "exit codes: 0 yes, 1 no (errors; warnings with --strict; a failed case; denied), 2 cannot tell (usage, unreadable, unreachable)"
)]
pub(crate) struct Cli {
    /// How data is printed on stdout.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// When to colour text; NO_COLOR turns it off for `auto`.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The form of data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// JSON; one value a line for commands that keep printing.
    Json,
    /// YAML.
    Yaml,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve manifests: start an Envoy for every Gateway, keep it and its policies up to date.
    Run(RunArgs),
    /// Find faults in manifests, each with its place and its fix.
    Check(CheckArgs),
    /// Print what Envoy is given for a Gateway.
    Render(RenderArgs),
    /// Run test cases: requests with the answers that they must get, decided without an Envoy.
    Test(TestArgs),
    /// Say which policy covers a route, what becomes of a request, or what a reason means.
    Explain(ExplainArgs),
    /// Print the statuses of policies, routes and Gateways, the worst first.
    Status(StatusArgs),
    /// Print the custom resource definitions.
    Crds,
    /// Print the version and the policy documents that this build writes.
    Version(VersionArgs),
    /// Become Envoy, and end when the controller does.
    #[command(hide = true)]
    BecomeEnvoy(BecomeEnvoyArgs),
    /// Send the clients of an Envoy away and wait until they are gone, before it is stopped.
    #[command(hide = true)]
    Drain(DrainArgs),
    /// Copy the filter and this program into a folder, for the Envoy of a pod.
    #[command(hide = true)]
    Unpack(UnpackArgs),
}

/// Which manifests, and how they are read.
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestArgs {
    /// A file, a folder (its .yaml, .yml and .json files) or - for stdin; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., action = ArgAction::Append)]
    pub filenames: Vec<PathBuf>,
    /// Read folders with all their folders.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Serve the GatewayClasses of this controller.
    #[arg(long, value_name = "NAME", default_value = CONTROLLER_NAME)]
    pub controller_name: String,
    /// Only objects of this namespace; may be repeated.
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// Where a Service without EndpointSlices is reached; may be repeated.
    #[arg(long = "backend", value_name = "NAMESPACE/NAME=HOST:PORT")]
    pub backends: Vec<BackendOverride>,
    /// The certificates that backends are trusted by under `wellKnownCACertificates: System`, as Envoy sees the file
    /// [default: where the system keeps them, else /etc/ssl/certs/ca-certificates.crt].
    #[arg(long, value_name = "FILE")]
    pub system_ca: Option<PathBuf>,
}

/// The filter, as Envoy sees it, and the controller's own files.
#[derive(Args, Clone, Debug)]
pub(crate) struct FilterArgs {
    /// The filter's .wasm file [default: portcullis.wasm beside this executable].
    #[arg(long, value_name = "FILE")]
    pub wasm: Option<PathBuf>,
    /// Where the key that names policies is kept [default: $XDG_STATE_HOME/portcullis or ~/.local/state/portcullis].
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// The unix socket between the controller and Envoy [default: private; STATE_DIR/xds.sock for Envoys of your own].
    #[arg(long, value_name = "PATH")]
    pub xds_socket: Option<PathBuf>,
}

/// `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Which manifests; they are watched.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Read objects from the cluster that kubectl would speak to, and serve Envoys of your own.
    #[arg(long, conflicts_with_all = ["filenames", "envoy"])]
    pub kubernetes: bool,
    /// With --kubernetes: where the Envoys have the filter's .wasm file [default: as --wasm].
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "filenames")]
    pub wasm_in_envoy: Option<PathBuf>,
    /// With --kubernetes: the Lease that the replicas share, and what the names of their Secrets begin with, in the controller's own
    /// namespace.
    #[arg(long, value_name = "NAME", default_value = "portcullis")]
    pub instance: String,
    /// With --kubernetes and Envoy Gateway's own --controller-name: the namespace in which Envoy Gateway is installed. Nothing is served
    /// while it runs.
    #[arg(long, value_name = "NAMESPACE", default_value = "envoy-gateway-system")]
    pub envoy_gateway_namespace: String,
    /// Where /healthz, /readyz and /metrics are answered [default: 0.0.0.0:8081 with --kubernetes, else nowhere].
    #[arg(long, value_name = "IP:PORT")]
    pub health_address: Option<SocketAddr>,
    /// The Envoy to start [default: $PORTCULLIS_ENVOY, then envoy in PATH].
    #[arg(long, value_name = "BIN", conflicts_with = "no_envoy")]
    pub envoy: Option<PathBuf>,
    /// Start no Envoy: only serve Envoys of your own on the socket.
    #[arg(long)]
    pub no_envoy: bool,
    /// Serve Envoys of your own on TCP too, in mutual TLS: STATE_DIR/xds/NAMESPACE/NAME has the credentials of each Gateway's, and
    /// with --kubernetes the Secret INSTANCE-xds.NAMESPACE.NAME [default: 0.0.0.0:18000 with --kubernetes, else nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub xds_address: Option<SocketAddr>,
    /// Worker threads of each Envoy [default: one a processor, at least 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: Option<u16>,
    /// Where Envoy's bootstrap, log and admin socket go [default: a new private folder, removed at the end].
    #[arg(long, value_name = "FOLDER")]
    pub run_dir: Option<PathBuf>,
    /// The filter and the controller's files.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    /// Which manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Warnings count as errors.
    #[arg(long)]
    pub strict: bool,
}

/// `render`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RenderArgs {
    /// Which manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Only this Gateway.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub gateway: Option<String>,
    /// Print a whole static configuration to paste, for an Envoy without a controller.
    #[arg(long)]
    pub snippet: bool,
    /// Print the bootstrap of an Envoy of your own that `run --no-envoy` serves.
    #[arg(long, conflicts_with = "snippet")]
    pub bootstrap: bool,
    /// With --bootstrap: reach the controller on TCP, in mutual TLS.
    #[arg(long, value_name = "HOST:PORT", requires_all = ["bootstrap", "xds_credentials"], conflicts_with = "xds_socket")]
    pub xds_address: Option<HostPort>,
    /// With --xds-address: the folder with the Gateway's credentials, as Envoy sees it.
    #[arg(long, value_name = "FOLDER", requires = "xds_address")]
    pub xds_credentials: Option<PathBuf>,
    /// With --snippet: write the configuration with every secret into this file, mode 0600, instead of on stdout.
    #[arg(long, value_name = "FILE", requires = "snippet")]
    pub show_secrets: Option<PathBuf>,
    /// The filter and the controller's files.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `test`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TestArgs {
    /// Files with PolicyTests, or folders that hold some, their folders included.
    #[arg(value_name = "CASES", required = true)]
    pub cases: Vec<PathBuf>,
    /// Run only the cases whose names match this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub run: Option<String>,
    /// Manifests beside those that the files name.
    #[command(flatten)]
    pub manifests: ManifestArgs,
}

/// `explain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// What to explain.
    #[command(subcommand)]
    pub what: Explain,
}

/// What to explain.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Explain {
    /// Which policy covers each place of a route, and what it enforces there.
    Route(ExplainRouteArgs),
    /// What becomes of a request, and why: 0 allowed, 1 denied.
    Request(Box<ExplainRequestArgs>),
    /// What a reason of logs, metrics and tests means, and what to do about it.
    Reason(ExplainReasonArgs),
}

/// `explain route`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainRouteArgs {
    /// The route and perhaps one of its rules, by name or index.
    #[arg(value_name = "NAMESPACE/NAME[/RULE]")]
    pub route: String,
    /// Read the objects of the cluster that kubectl would speak to.
    #[arg(long, conflicts_with = "filenames")]
    pub kubernetes: bool,
    /// Which manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
}

/// `explain request`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainRequestArgs {
    /// The method.
    pub method: String,
    /// The URL: http://HOST/PATH or https://HOST/PATH.
    pub url: String,
    /// A header line; may be repeated. An empty 'Host:' is a request that names no host.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<HeaderLine>,
    /// The address that the request comes from.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<std::net::IpAddr>,
    /// What the proxy's databases say of that address, as country=US; may be repeated: country, region, city, asn, isp, and true
    /// or false for anonymous, vpn, hosting, tor, proxy. 'none' for an address that no database holds.
    #[arg(long = "geo", value_name = "NAME=VALUE")]
    pub geo: Vec<Told>,
    /// The certificate that the client shows.
    #[command(flatten)]
    pub certificate: CertificateArgs,
    /// The state folder of the `run` that serves the manifests: what its proxies did not take counts too.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// The Gateway, where several serve the host.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub gateway: Option<String>,
    /// Which manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
}

/// The certificate that a client shows.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CertificateArgs {
    /// The client shows a valid certificate whose first URI is this, such as a SPIFFE ID.
    #[arg(long, value_name = "URI")]
    pub client_cert_uri: Option<String>,
    /// The client shows a valid certificate whose first DNS name is this.
    #[arg(long, value_name = "NAME")]
    pub client_cert_dns: Option<String>,
    /// The client shows a valid certificate with this subject, such as CN=orders,O=shop.
    #[arg(long, value_name = "SUBJECT")]
    pub client_cert_subject: Option<String>,
    /// The client shows no certificate.
    #[arg(long, conflicts_with_all = ["client_cert_uri", "client_cert_dns", "client_cert_subject"])]
    pub no_client_cert: bool,
}

impl CertificateArgs {
    /// What is said of it.
    pub(crate) fn shown(&self) -> Shown {
        let certificate = ClientCertificate {
            uri_san: self.client_cert_uri.clone(),
            dns_san: self.client_cert_dns.clone(),
            subject: self.client_cert_subject.clone(),
        };
        if self.no_client_cert {
            Shown::Nothing
        } else if certificate == ClientCertificate::default() {
            Shown::Unsaid
        } else {
            Shown::Valid(certificate)
        }
    }
}

/// `explain reason`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainReasonArgs {
    /// The reason, as in a log, a metric or `portcullis_REASON`; without one all are listed.
    pub code: Option<String>,
}

/// `status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// Only objects of this name.
    pub name: Option<String>,
    /// Objects of every namespace, which is what is shown unless -n names some.
    #[arg(short = 'A', long, conflicts_with = "namespaces")]
    pub all_namespaces: bool,
    /// Print what stands in the cluster that kubectl would speak to.
    #[arg(long, conflicts_with = "filenames")]
    pub kubernetes: bool,
    /// Wait until every policy shown is enforced by every Envoy, or one is not accepted.
    #[arg(
        long,
        value_enum,
        value_name = "STATE",
        requires = "kubernetes",
        conflicts_with = "filenames"
    )]
    pub wait: Option<Wait>,
    /// How long to wait, as 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration, requires = "wait")]
    pub timeout: Duration,
    /// Which manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
}

/// What `status` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Every connected Envoy has the policy and decodes it.
    Enforced,
}

/// A time in seconds or minutes: `30s`, `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 30s or 5m".to_owned())?;
    number
        .checked_mul(unit)
        .map(Duration::from_secs)
        .ok_or_else(|| "is too long".to_owned())
}

/// `version`.
#[derive(Args, Clone, Debug)]
pub(crate) struct VersionArgs {
    /// Also ask a running controller (its socket's path) or Envoy (unix:PATH or http://ADDRESS:PORT of its admin
    /// interface) whether it is ready: 0 ready, 2 not.
    #[arg(long, value_name = "WHERE")]
    pub ready: Option<Ready>,
}

/// `become-envoy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BecomeEnvoyArgs {
    /// The controller's process id.
    #[arg(long)]
    pub parent: u32,
    /// Envoy and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn filenames_repeat_in_both_ways() {
        let Command::Check(args) = parse("portcullis check -f a b -f - -R --strict").unwrap().command else {
            panic!("not check");
        };
        assert_eq!(
            args.manifests.filenames,
            [PathBuf::from("a"), PathBuf::from("b"), PathBuf::from("-")]
        );
        assert!(args.manifests.recursive && args.strict);
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        assert_eq!(parse("portcullis -o json crds").unwrap().output, Output::Json);
        let cli = parse("portcullis crds -o yaml --color never").unwrap();
        assert_eq!((cli.output, cli.color), (Output::Yaml, Color::Never));
    }

    #[test]
    fn run_takes_files_or_kubernetes_and_one_kind_of_envoy() {
        assert!(parse("portcullis run -f a --kubernetes").is_err());
        assert!(parse("portcullis run --kubernetes --envoy e").is_err());
        assert!(parse("portcullis run -f a --wasm-in-envoy w").is_err());
        assert!(parse("portcullis run -f a --envoy e --no-envoy").is_err());
        assert!(parse("portcullis run -f a --concurrency 0").is_err());
        let Command::Run(args) = parse("portcullis run -f a --no-envoy -n shop -n edge").unwrap().command else {
            panic!("not run");
        };
        assert_eq!(args.manifests.namespaces, ["shop", "edge"]);
        assert_eq!(args.manifests.controller_name, CONTROLLER_NAME);
    }

    #[test]
    fn what_is_waited_for_stands_in_a_cluster() {
        assert!(parse("portcullis status -f a --wait enforced").is_err());
        assert!(parse("portcullis status --kubernetes --timeout 1s").is_err());
        let Command::Status(args) = parse("portcullis status --kubernetes --wait enforced --timeout 2m")
            .unwrap()
            .command
        else {
            panic!("not status");
        };
        assert_eq!(args.timeout, Duration::from_secs(120));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn a_controller_on_tcp_is_reached_with_credentials() {
        assert!(parse("portcullis render -f a --bootstrap --xds-address a:1").is_err());
        assert!(parse("portcullis render -f a --xds-address a:1 --xds-credentials b").is_err());
        assert!(parse("portcullis render -f a --bootstrap --xds-address a:1 --xds-credentials b").is_ok());
    }

    #[test]
    fn render_writes_secrets_only_for_a_snippet() {
        assert!(parse("portcullis render -f a --show-secrets b").is_err());
        assert!(parse("portcullis render -f a --snippet --bootstrap").is_err());
        let Command::Render(args) = parse("portcullis render -f a --snippet --show-secrets b")
            .unwrap()
            .command
        else {
            panic!("not render");
        };
        assert_eq!(args.show_secrets, Some(PathBuf::from("b")));
    }
}
