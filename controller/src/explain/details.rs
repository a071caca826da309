//! What Envoy's access log says of answers that no policy gave (`RESPONSE_CODE_DETAILS`, Envoy 1.40).

/// Codes that mean the same to whoever reads the log.
pub(super) struct Details {
    /// As Envoy writes them; what may follow in braces is left out.
    pub(super) codes: &'static [&'static str],
    pub(super) cause: &'static str,
    pub(super) client: &'static str,
    pub(super) remedy: &'static str,
}

const MALFORMED: &str = "400 with the body \"Bad Request\" or none; the connection is closed.";

/// Every code that the proxies of this controller answer with, the seal's apart.
pub(super) const ALL: [Details; 17] = [
    Details {
        codes: &["direct_response"],
        cause: "The route table answered: 404 where no route takes the request, 400 for a host with characters that no host has, 421 for a host that another listener's certificate stands for, 500 for a rule whose filters or backends are at fault or a virtual host that Envoy did not take, or a redirect.",
        client: "That status without a body.",
        remedy: "`portcullis explain request` says which; `portcullis status` names the rule at fault.",
    },
    Details {
        codes: &["path_normalization_failed"],
        cause: "The path holds an escaped slash or backslash (%2F, %5C), or a character that no path may hold (%00).",
        client: "307 to the path that an escaped slash stands for; 400 for the others.",
        remedy: "Let the client send the path plainly.",
    },
    Details {
        codes: &["http1.unexpected_underscore", "http2.unexpected_underscore"],
        cause: "A header's name has an underscore, which some backends take for a hyphen.",
        client: "400 without a body.",
        remedy: "Let the client write a hyphen.",
    },
    Details {
        codes: &[
            "http1.headers_too_large",
            "http1.too_many_headers",
            "http2.too_many_headers",
            "http2.header_list_size_too_large",
        ],
        cause: "The request has more than 100 headers, or more than 60 KiB of them.",
        client: "431, or the stream is reset.",
        remedy: "Let the client send fewer headers; cookies are the usual cause.",
    },
    Details {
        codes: &[
            "http1.codec_error",
            "http1.invalid_characters",
            "http1.invalid_url",
            "http1.invalid_scheme",
            "http1.https_url_on_plaintext_connection",
            "http1.connection_header_rejected",
        ],
        cause: "The request is no well-formed HTTP/1.1: a method, a target or a header line that Envoy does not read.",
        client: MALFORMED,
        remedy: "Mend the client; no policy saw the request.",
    },
    Details {
        codes: &[
            "http1.invalid_transfer_encoding",
            "http1.transfer_encoding_not_allowed",
            "http1.content_length_and_chunked_not_allowed",
            "http1.content_length_not_allowed",
            "http1.body_disallowed",
        ],
        cause: "The request says in two ways, or in none that is allowed, where its body ends.",
        client: MALFORMED,
        remedy: "Mend the client: one Content-Length, or Transfer-Encoding: chunked.",
    },
    Details {
        codes: &["http.invalid_authority"],
        cause: "The host holds a character that no host may hold, such as a space, a slash or one beyond ASCII.",
        client: MALFORMED,
        remedy: "Mend the client; no policy saw the request.",
    },
    Details {
        codes: &["http2.violation.of.messaging.rule", "http2.invalid.header.field"],
        cause: "The request breaks a rule of HTTP/2 messages (RFC 9113, 8.1).",
        client: "400, or the stream is reset.",
        remedy: "Mend the client; no policy saw the request.",
    },
    Details {
        codes: &[
            "missing_host_header",
            "missing_path_rejected",
            "absolute_path_rejected",
            "low_version",
        ],
        cause: "The request has no host or no path that a route could be found by, or it is HTTP/1.0.",
        client: "400, 404 or 426 without a body.",
        remedy: "Mend the client; no policy saw the request.",
    },
    Details {
        codes: &[
            "rejecting_because_detection_failed",
            "downstream_rq_rejected_via_ip_detection",
        ],
        cause: "The header that a ClientTrafficPolicy has the client's address read from is missing or holds no address.",
        client: "The status that the policy names, 403 unless it does.",
        remedy: "Let the proxy in front set the header; see clientIPDetection.customHeader.",
    },
    Details {
        codes: &["wasm_fail_stream"],
        cause: "The filter's virtual machine in this worker has died and is being started again, so nothing could be decided.",
        client: "503 without a body.",
        remedy: "Try again after a moment. If it goes on, report what Envoy's log says of the filter.",
    },
    Details {
        codes: &["upgrade_failed"],
        cause: "The request asks for an upgrade that the gateway does not do.",
        client: "403 without a body.",
        remedy: "Only WebSocket is served.",
    },
    Details {
        codes: &[
            "stream_idle_timeout",
            "request_overall_timeout",
            "max_duration_timeout",
            "duration_timeout",
        ],
        cause: "Nothing was sent for too long, or the request took longer than it may.",
        client: "408 before the request was whole, 504 after that.",
        remedy: "See the route's timeouts and the client's network.",
    },
    Details {
        codes: &["route_not_found"],
        cause: "Envoy has no route table yet that takes the request.",
        client: "404 without a body.",
        remedy: "See whether the controller runs and what `portcullis status` says of the listener.",
    },
    Details {
        codes: &["filter_chain_not_found"],
        cause: "Nothing takes the connection: on a TCP listener the policy refuses the client's address, or no route is there; on an HTTPS listener none has the name that the client asked for.",
        client: "The connection is closed; of a TCP listener's backend nothing was heard.",
        remedy: "`portcullis explain route` names the policy of a TCPRoute; `portcullis status` names what is at fault.",
    },
    Details {
        codes: &[
            "no_healthy_upstream",
            "cluster_not_found",
            "no_cluster",
            "maintenance_mode",
        ],
        cause: "The policy admitted the request, and no backend of the rule can be reached.",
        client: "503 with a body that names no backend.",
        remedy: "See the rule's backends.",
    },
    Details {
        codes: &[
            "via_upstream",
            "upstream_reset_before_response_started",
            "upstream_reset_after_response_started",
            "upstream_response_timeout",
            "upstream_per_try_timeout",
        ],
        cause: "The policy admitted the request: a backend answered it, or broke off.",
        client: "The backend's answer; 503 or 504 if there is none.",
        remedy: "See the backend.",
    },
];

/// The entry of a code, with the code as it stands there.
pub(super) fn find(code: &str) -> Option<(&'static str, &'static Details)> {
    let code = code.split_once('{').map_or(code, |(code, _)| code);
    let mut all = ALL
        .iter()
        .flat_map(|details| details.codes.iter().map(move |known| (*known, details)));
    all.find(|(known, _)| *known == code)
}
