//! Envoy Gateway on the same cluster: of two controllers with one name, each would write the other's statuses away.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use crate::{
    Error,
    lease::{DURATION, Seen, see},
};

/// How Envoy Gateway calls itself in GatewayClasses (`gateway.envoyproxy.io/gatewayclass-controller`).
pub const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io/gatewayclass-controller";

/// The Lease by which replicas of Envoy Gateway elect the one that writes.
const LEASE: &str = "5b9825d2.gateway.envoyproxy.io";

/// What is known of Envoy Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It does not run: nobody holds its Lease, or whoever does was silent for as long as it lasts.
    Gone,
    /// Somebody holds its Lease; whether that one lives is seen when it is renewed.
    Unsure(String),
    /// It runs: this one renews its Lease.
    Alive(String),
}

/// A watch on Envoy Gateway's Lease.
#[derive(Debug)]
pub struct EnvoyGateway {
    leases: Api<Lease>,
    namespace: String,
    seen: Option<Seen>,
    lives: bool,
}

impl EnvoyGateway {
    /// Looks for it in the namespace in which it is installed, and in no other: whoever may make Leases elsewhere could say
    /// that it runs.
    #[must_use]
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            seen: None,
            lives: false,
        }
    }

    /// Looks at its Lease again. What lives is known within the Lease's duration, 15 s: times of other clocks are compared with
    /// nothing.
    ///
    /// # Errors
    /// The API server does not answer, or the right to `get` the Lease is missing.
    pub async fn look(&mut self) -> Result<Sight, Error> {
        let lease = self.leases.get_opt(LEASE).await?;
        Ok(self.judge(lease.as_ref(), Instant::now()))
    }

    fn judge(&mut self, lease: Option<&Lease>, now: Instant) -> Sight {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let former = self.seen.take();
        let known = former.is_some();
        let seen = see(former, spec, now);
        let holder = seen.holder.clone().filter(|holder| !holder.is_empty());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = duration.map_or(DURATION, Duration::from_secs);
        let silent = now.duration_since(seen.since) >= duration;
        let renewed = known && seen.since == now;
        self.seen = Some(seen);
        self.lives = (self.lives && !silent) || renewed;
        match holder {
            None => {
                self.lives = false;
                Sight::Gone
            }
            Some(_) if silent => Sight::Gone,
            Some(holder) => {
                let who = format!("{holder} holds the Lease {}/{LEASE}", self.namespace);
                if self.lives {
                    Sight::Alive(who)
                } else {
                    Sight::Unsure(who)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
    };
    use kube::Config;

    use super::*;

    fn lease(holder: &str, second: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(Timestamp::from_second(second).unwrap())),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        Lease {
            spec: Some(spec),
            ..Lease::default()
        }
    }

    fn watch() -> EnvoyGateway {
        let nowhere = Config::new("http://127.0.0.1:9".parse().unwrap());
        EnvoyGateway::new(&Client::try_from(nowhere).unwrap(), "envoy-gateway-system")
    }

    #[tokio::test]
    async fn it_lives_if_its_lease_is_renewed_and_is_gone_when_that_ends() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let who = || "one holds the Lease envoy-gateway-system/5b9825d2.gateway.envoyproxy.io".to_owned();
        let mut watch = watch();
        assert_eq!(watch.judge(None, start), Sight::Gone);
        let mut watch = self::watch();
        for (now, renewed, sight) in [
            (0, 7, Sight::Unsure(who())),
            (14, 7, Sight::Unsure(who())),
            (15, 7, Sight::Gone),
            (16, 9, Sight::Alive(who())),
            (30, 9, Sight::Alive(who())),
            (31, 9, Sight::Gone),
        ] {
            assert_eq!(watch.judge(Some(&lease("one", renewed)), after(now)), sight, "{now} s");
        }
    }

    #[tokio::test]
    async fn it_is_gone_at_once_when_it_gives_its_lease_back() {
        let start = Instant::now();
        let mut watch = watch();
        watch.judge(Some(&lease("one", 1)), start);
        let later = start + Duration::from_secs(2);
        assert!(matches!(watch.judge(Some(&lease("one", 3)), later), Sight::Alive(_)));
        assert_eq!(watch.judge(Some(&lease("", 4)), later), Sight::Gone);
    }
}
