//! The connection manager of every HTTP listener: the same filters always, so that no policy and no route changes a listener.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::{
            accesslog::v3::{AccessLog, access_log},
            common::mutation_rules::v3::{
                HeaderMutation as Mutation,
                header_mutation::{Action as Change, RemoveOnMatch},
            },
            core::v3::{
                AsyncDataSource, BackoffStrategy, DataSource, Http2ProtocolOptions, HttpProtocolOptions,
                SubstitutionFormatString, TypedExtensionConfig, async_data_source, data_source,
                http_protocol_options::HeadersWithUnderscoresAction, substitution_format_string::Format,
            },
            rbac::v3::{
                Permission, Policy, Principal, Rbac as Rules, permission::Rule, principal::Identifier, rbac::Action,
            },
            route::v3::FilterConfig,
        },
        extensions::{
            access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
            filters::{
                http::{
                    geoip::v3::Geoip,
                    header_mutation::v3::{HeaderMutation, Mutations},
                    rbac::v3::Rbac,
                    router::v3::Router,
                    wasm::v3::Wasm,
                },
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{
                        ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                        ServerHeaderTransformation, UpgradeConfig,
                    },
                    http_filter::ConfigType,
                },
            },
            geoip_providers::{
                common::v3::{CommonGeoipProviderConfig, common_geoip_provider_config::GeolocationFieldKeys},
                maxmind::v3::MaxMindConfig,
            },
            wasm::v3::{
                CapabilityRestrictionConfig, FailurePolicy, PluginConfig, ReloadConfig, SanitizationConfig, VmConfig,
                plugin_config::Vm,
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::{
        api::expr::v1alpha1::{
            Constant, Expr,
            constant::ConstantKind,
            expr::{Call, ExprKind, Ident, Select},
        },
        protobuf::{Any, StringValue, Struct, Value, value::Kind},
    },
};
use portcullis_attachment::geography::Databases;
use portcullis_engine::geography::{Field, PREFIX};
use prost::Name;

use crate::{
    Options,
    detection::Peers,
    xds::{ads, any, merged, milliseconds, number, yes},
};

/// What the filter may call, and what Envoy calls in it; Envoy never enters a callback that is not here.
const CAPABILITIES: [&str; 34] = [
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_http_call_response",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
    "random_get",
];

/// Fields of the access log; the `wasm.portcullis.*` ones are set by the filter.
const ACCESS_LOG: [(&str, &str); 23] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("duration", "%DURATION%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("h", "%FILTER_STATE(wasm.portcullis.seal:PLAIN)%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%PATH(NQ)%"),
    ("policy", "%FILTER_STATE(wasm.portcullis.policy:PLAIN)%"),
    ("principal", "%FILTER_STATE(wasm.portcullis.principal:PLAIN)%"),
    ("protocol", "%PROTOCOL%"),
    ("reason", "%FILTER_STATE(wasm.portcullis.reason:PLAIN)%"),
    ("received", "%BYTES_RECEIVED%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("route", "%ROUTE_NAME%"),
    ("rule", "%FILTER_STATE(wasm.portcullis.rule:PLAIN)%"),
    ("sent", "%BYTES_SENT%"),
    ("shadow_policy", "%FILTER_STATE(wasm.portcullis.shadow_policy:PLAIN)%"),
    ("shadow_reason", "%FILTER_STATE(wasm.portcullis.shadow_reason:PLAIN)%"),
    ("shadow_rule", "%FILTER_STATE(wasm.portcullis.shadow_rule:PLAIN)%"),
    ("start", "%START_TIME%"),
    ("status", "%RESPONSE_CODE%"),
    ("upstream", "%UPSTREAM_HOST%"),
];

/// Fields of the log of a TCP listener: which chain admitted a connection says whether one did.
const CONNECTION_LOG: [(&str, &str); 9] = [
    ("chain", "%FILTER_CHAIN_NAME%"),
    ("client", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("duration", "%DURATION%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("received", "%BYTES_RECEIVED%"),
    ("sent", "%BYTES_SENT%"),
    ("start", "%START_TIME%"),
    ("upstream", "%UPSTREAM_HOST%"),
];

/// The connection manager that serves one route table.
pub(crate) fn connection_manager(
    stat_prefix: &str,
    table: &str,
    peers: &Peers<'_>,
    databases: Option<&Databases>,
    options: &Options,
) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(),
            route_config_name: table.to_owned(),
        })),
        http_filters: filters(databases, options),
        common_http_protocol_options: Some(HttpProtocolOptions {
            headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest.into(),
            ..HttpProtocolOptions::default()
        }),
        // What one connection may make Envoy keep: its own defaults are 1024 streams and 24 MiB.
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: number(100),
            initial_stream_window_size: number(64 * 1024),
            initial_connection_window_size: number(1024 * 1024),
            ..Http2ProtocolOptions::default()
        }),
        access_log: options.access_log.iter().map(|path| access_log(path)).collect(),
        // Frees streams whose virtual machine died while they waited.
        stream_idle_timeout: milliseconds(300_000),
        forward_client_cert_details: ForwardClientCertDetails::Sanitize.into(),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        normalize_path: yes(),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndRedirect.into(),
        strip_trailing_host_dot: true,
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        ..HttpConnectionManager::default()
    };
    peers.apply(&mut manager);
    manager
}

/// The name of the second instance of the filter, which decides again what claims sent to another route.
pub(crate) const RECHECK: &str = "portcullis-recheck";

/// What a route says of [`RECHECK`] whose policy may send requests to another one.
pub(crate) fn rechecked() -> HashMap<String, Any> {
    let enabled = FilterConfig {
        // Nothing in it: what matters is that it is there.
        config: Some(Any::default()),
        ..FilterConfig::default()
    };
    HashMap::from([(RECHECK.to_owned(), any(&enabled))])
}

/// The names of the filters that tell the place of a client, where there are databases: the first stand before the filter, the last
/// one behind it.
pub(crate) const GEOGRAPHY: [&str; 3] = ["geography-ours", "geography", "geography-done"];

fn filters(databases: Option<&Databases>, options: &Options) -> Vec<HttpFilter> {
    let router = Router {
        suppress_envoy_headers: true,
        ..Router::default()
    };
    let [ours, look_up, done] = GEOGRAPHY;
    let served = databases.map(Databases::fields).unwrap_or_default();
    let mut filters = Vec::new();
    let mut configuration = String::new();
    if let Some(databases) = databases {
        // Nobody but the look-up says where a client is.
        filters.push(filter(ours, any(&without_places())));
        filters.push(filter(look_up, any(&geoip(databases, &served))));
        let names: Vec<&str> = served.iter().map(|field| field.name()).collect();
        configuration = format!("geography {}", names.join(" "));
    }
    filters.push(filter("portcullis", plugin(&options.wasm, &configuration)));
    if databases.is_some() {
        filters.push(filter(done, any(&without_places())));
    }
    filters.extend([
        // Resolves its configuration for the route, which makes `xds.route_metadata` current after a re-route.
        filter("refresh", any(&Rbac::default())),
        HttpFilter {
            disabled: true,
            ..filter(RECHECK, plugin(&options.wasm, "recheck"))
        },
        filter("seal", any(&seal())),
        filter("envoy.filters.http.router", any(&router)),
    ]);
    filters
}

/// Removes every header in which the proxy tells where a client is, in trailers too.
fn without_places() -> HeaderMutation {
    let ours = || Mutation {
        action: Some(Change::RemoveOnMatch(RemoveOnMatch {
            key_matcher: Some(StringMatcher {
                match_pattern: Some(MatchPattern::Prefix(PREFIX.to_owned())),
                ..StringMatcher::default()
            }),
        })),
    };
    HeaderMutation {
        mutations: Some(Mutations {
            request_mutations: vec![ours()],
            request_trailers_mutations: vec![ours()],
            ..Mutations::default()
        }),
        ..HeaderMutation::default()
    }
}

/// Looks up the address that rules on addresses see too. Envoy holds it to be a fault of its own if it is to tell what it has no
/// database for.
fn geoip(databases: &Databases, served: &[Field]) -> Geoip {
    let key = |field: Field| {
        let header = served.contains(&field).then(|| field.header());
        header.unwrap_or_default()
    };
    let path = |path: &Option<String>| path.clone().unwrap_or_default();
    let keys = GeolocationFieldKeys {
        country: key(Field::Country),
        region: key(Field::Region),
        city: key(Field::City),
        asn: key(Field::Asn),
        isp: key(Field::Isp),
        anon: key(Field::Anonymous),
        anon_vpn: key(Field::Vpn),
        anon_hosting: key(Field::Hosting),
        anon_tor: key(Field::Tor),
        anon_proxy: key(Field::Proxy),
        ..GeolocationFieldKeys::default()
    };
    let provider = MaxMindConfig {
        city_db_path: path(&databases.city),
        country_db_path: path(&databases.country),
        asn_db_path: path(&databases.asn),
        isp_db_path: path(&databases.isp),
        anon_db_path: path(&databases.anonymous),
        common_provider_config: Some(CommonGeoipProviderConfig {
            geo_field_keys: Some(keys),
            ..CommonGeoipProviderConfig::default()
        }),
    };
    Geoip {
        provider: Some(TypedExtensionConfig {
            name: "envoy.geoip_providers.maxmind".to_owned(),
            typed_config: Some(any(&provider)),
        }),
        ..Geoip::default()
    }
}

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// An instance of the filter; all run in the same virtual machine of a worker.
fn plugin(file: &str, configuration: &str) -> Any {
    let with = |config| Wasm { config: Some(config) };
    let configuration = StringValue {
        value: configuration.to_owned(),
    };
    let plugin = with(PluginConfig {
        name: "portcullis".to_owned(),
        configuration: (!configuration.value.is_empty()).then(|| any(&configuration)),
        failure_policy: FailurePolicy::FailReload.into(),
        reload_config: Some(ReloadConfig {
            backoff: Some(BackoffStrategy {
                base_interval: milliseconds(50),
                ..BackoffStrategy::default()
            }),
        }),
        vm: Some(Vm::VmConfig(VmConfig {
            vm_id: "portcullis".to_owned(),
            code: Some(AsyncDataSource {
                specifier: Some(async_data_source::Specifier::Local(DataSource {
                    specifier: Some(data_source::Specifier::Filename(file.to_owned())),
                    ..DataSource::default()
                })),
            }),
            ..VmConfig::default()
        })),
        ..PluginConfig::default()
    });
    let capabilities = CAPABILITIES.map(|capability| {
        with(PluginConfig {
            vm: Some(Vm::VmConfig(VmConfig {
                capability_restriction_config: Some(CapabilityRestrictionConfig {
                    allowed_capabilities: HashMap::from([(capability.to_owned(), SanitizationConfig {})]),
                }),
                ..VmConfig::default()
            })),
            ..PluginConfig::default()
        })
    });
    Any {
        type_url: Wasm::type_url(),
        value: merged(std::iter::once(plugin).chain(capabilities)),
    }
}

/// Admits a request only if the filter sealed it with the policy of the route that it goes to; whatever is missing denies.
fn seal() -> Rbac {
    let seal = index(ident("filter_state"), "wasm.portcullis.seal");
    let metadata = select(select(ident("xds"), "route_metadata"), "filter_metadata");
    let hash = index(index(metadata, "portcullis"), "h");
    let policy = Policy {
        permissions: vec![Permission {
            rule: Some(Rule::Any(true)),
        }],
        principals: vec![Principal {
            identifier: Some(Identifier::Any(true)),
        }],
        condition: Some(call("_==_", vec![seal, hash])),
        ..Policy::default()
    };
    Rbac {
        rules: Some(Rules {
            action: Action::Allow.into(),
            policies: HashMap::from([("sealed".to_owned(), policy)]),
            ..Rules::default()
        }),
        rules_stat_prefix: "portcullis_seal_".to_owned(),
        ..Rbac::default()
    }
}

const fn expression(kind: ExprKind) -> Expr {
    Expr {
        id: 0,
        expr_kind: Some(kind),
    }
}

fn ident(name: &str) -> Expr {
    expression(ExprKind::IdentExpr(Ident { name: name.to_owned() }))
}

fn select(operand: Expr, field: &str) -> Expr {
    expression(ExprKind::SelectExpr(Box::new(Select {
        operand: Some(Box::new(operand)),
        field: field.to_owned(),
        test_only: false,
    })))
}

fn index(operand: Expr, key: &str) -> Expr {
    let key = expression(ExprKind::ConstExpr(Constant {
        constant_kind: Some(ConstantKind::StringValue(key.to_owned())),
    }));
    call("_[_]", vec![operand, key])
}

fn call(function: &str, args: Vec<Expr>) -> Expr {
    expression(ExprKind::CallExpr(Box::new(Call {
        target: None,
        function: function.to_owned(),
        args,
    })))
}

/// One JSON object per connection of a TCP listener, refused or not.
pub(crate) fn connection_log(path: &str) -> AccessLog {
    file_log(path, &CONNECTION_LOG)
}

fn access_log(path: &str) -> AccessLog {
    file_log(path, &ACCESS_LOG)
}

fn file_log(path: &str, fields: &[(&str, &str)]) -> AccessLog {
    let format = |format| SubstitutionFormatString {
        format: Some(Format::JsonFormat(format)),
        ..SubstitutionFormatString::default()
    };
    let head = FileAccessLog {
        path: path.to_owned(),
        access_log_format: None,
    };
    let fields = fields.iter().map(|(name, value)| FileAccessLog {
        access_log_format: Some(AccessLogFormat::LogFormat(format(Struct {
            fields: HashMap::from([(
                (*name).to_owned(),
                Value {
                    kind: Some(Kind::StringValue((*value).to_owned())),
                },
            )]),
        }))),
        ..FileAccessLog::default()
    });
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(Any {
            type_url: FileAccessLog::type_url(),
            value: merged(std::iter::once(head).chain(fields)),
        })),
        ..AccessLog::default()
    }
}
