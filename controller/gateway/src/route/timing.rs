//! `timeouts` and `retry` of a rule.

use envoy_types::pb::{
    envoy::{
        config::route::v3::{
            RetryPolicy,
            retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType},
        },
        extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
    },
    google::protobuf::Duration,
};
use gateway_api::httproutes::HttpRouteRulesTimeouts;
use portcullis_api::http_route::HttpRouteRetry;

use super::source::Kind;
use crate::{
    report::Fault,
    xds::{any, number},
};

/// How often another endpoint is looked for than those that failed, as Envoy Gateway has it.
const OTHER_HOSTS: i64 = 5;

/// How long a request may take, and when it is sent again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timing {
    /// Envoy's own bound, 15 s, if absent; zero for none.
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
}

impl Timing {
    /// Reads both fields; paths of faults are below the rule.
    pub(crate) fn read(
        kind: Kind,
        timeouts: Option<&HttpRouteRulesTimeouts>,
        retry: Option<&HttpRouteRetry>,
    ) -> Result<Self, Fault> {
        if kind == Kind::Grpc {
            // A stream lasts as long as its two ends want; one without traffic ends with the connection manager's patience.
            return Ok(Self {
                timeout: Some(Duration::default()),
                retry: None,
            });
        }
        let request = parse("timeouts.request", timeouts.and_then(|spec| spec.request.as_deref()))?;
        let attempt = parse(
            "timeouts.backendRequest",
            timeouts.and_then(|spec| spec.backend_request.as_deref()),
        )?;
        let Some(retry) = retry else {
            // Nothing is retried, so both bound the same attempt.
            let shortest = [request, attempt].into_iter().flatten().filter(|time| *time > 0).min();
            let asked = request.is_some() || attempt.is_some();
            return Ok(Self {
                timeout: asked.then(|| duration(shortest.unwrap_or_default())),
                retry: None,
            });
        };
        Ok(Self {
            // Where only the attempts are bounded, Envoy's own bound would end the last ones early.
            timeout: request.or_else(|| attempt.map(|_| 0)).map(duration),
            retry: Some(policy(retry, attempt).map_err(|fault| fault.below("retry"))?),
        })
    }
}

fn policy(spec: &HttpRouteRetry, attempt: Option<u64>) -> Result<RetryPolicy, Fault> {
    let mut codes = Vec::new();
    for (index, code) in spec.codes.iter().flatten().enumerate() {
        match u32::try_from(*code).ok().filter(|code| (400..600).contains(code)) {
            Some(code) if codes.contains(&code) => {}
            Some(code) => codes.push(code),
            None => {
                return Err(Fault::new(
                    "invalid-retry",
                    format!("codes[{index}]"),
                    format!("{code} is not between 400 and 599"),
                ));
            }
        }
    }
    let attempts = match spec.attempts {
        None => None,
        Some(attempts) => Some(
            u32::try_from(attempts)
                .map_err(|_| Fault::new("invalid-retry", "attempts", format!("{attempts} is less than 0")))?,
        ),
    };
    let backoff = parse("backoff", spec.backoff.as_deref())?.filter(|time| *time > 0);
    // "Implementations SHOULD retry on connection errors (disconnect, reset, timeout, TCP failure)" (HTTPRouteRetry).
    let mut conditions = "connect-failure,refused-stream,reset".to_owned();
    if !codes.is_empty() {
        conditions.push_str(",retriable-status-codes");
    }
    Ok(RetryPolicy {
        retry_on: conditions,
        num_retries: attempts.and_then(number),
        per_try_timeout: attempt.filter(|time| *time > 0).map(duration),
        retriable_status_codes: codes,
        retry_back_off: backoff.map(|time| RetryBackOff {
            base_interval: Some(duration(time)),
            ..RetryBackOff::default()
        }),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
        }],
        host_selection_retry_max_attempts: OTHER_HOSTS,
        ..RetryPolicy::default()
    })
}

/// A duration of the Gateway API (GEP-2257) in milliseconds.
fn parse(field: &str, value: Option<&str>) -> Result<Option<u64>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let milliseconds = value
        .parse::<gateway_api::Duration>()
        .ok()
        .and_then(|duration| u64::try_from(duration.as_millis()).ok());
    match milliseconds {
        Some(milliseconds) => Ok(Some(milliseconds)),
        None => Err(
            Fault::new("invalid-duration", field, format!("{value:?} is no duration"))
                .fix("write it like 10s or 1m30s"),
        ),
    }
}

fn duration(milliseconds: u64) -> Duration {
    Duration {
        seconds: i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(milliseconds % 1000 * 1_000_000).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let timeouts = |request: &str| HttpRouteRulesTimeouts {
            request: Some(request.to_owned()),
            backend_request: None,
        };
        let retry = |attempts, backoff: Option<&str>, code| HttpRouteRetry {
            attempts,
            backoff: backoff.map(str::to_owned),
            codes: Some(vec![503, code]),
        };
        let cases = [
            (Some(timeouts("5")), None, "timeouts.request"),
            (Some(timeouts("")), None, "timeouts.request"),
            (None, Some(retry(None, None, 399)), "retry.codes[1]"),
            (None, Some(retry(None, None, 600)), "retry.codes[1]"),
            (None, Some(retry(Some(-1), None, 500)), "retry.attempts"),
            (None, Some(retry(None, Some("soon"), 500)), "retry.backoff"),
        ];
        for (timeouts, retry, wanted) in cases {
            let read = Timing::read(Kind::Http, timeouts.as_ref(), retry.as_ref());
            assert_eq!(read.err().map(|fault| fault.path).as_deref(), Some(wanted));
        }
    }
}
