//! Who is who on xDS over TCP: the authorities, in a Secret that all replicas share, and a Secret of credentials for the proxies
//! of each Gateway, all in the client's own namespace. Whoever reads Secrets there can be any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use portcullis_xds::{Authorities, Credentials, Identity, ServerCredentials, ServerTls, authority::CertificateError};
use tokio::{sync::watch, task::AbortHandle};

use crate::Error;

/// The entry with the authorities and their keys.
const AUTHORITIES: &str = "authorities.pem";
/// The entries of a Gateway's Secret, as of every Secret for TLS.
const ENTRIES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// The type of a Gateway's Secret.
const TLS: &str = "kubernetes.io/tls";

/// How often it is looked whether something is to be made anew.
const LOOK: Duration = Duration::from_secs(600);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How old credentials are before they can be left over, in seconds.
const SETTLED: u64 = 3_600;
/// The label of what an instance keeps.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The longest name of an object.
const MAX_NAME: usize = 253;

/// Keeps credentials up to date, for as long as this value lives.
#[derive(Debug)]
pub struct Keeper {
    gateways: watch::Sender<BTreeSet<String>>,
    task: AbortHandle,
}

impl Keeper {
    /// Reads the authorities of the Secret `<instance>-xds`, or makes the first; the receiver has what this replica shows.
    /// `told` hears in words what goes wrong later, once.
    ///
    /// # Errors
    ///
    /// The API server does not let them be read or made, or they are none: these are not replaced, for no proxy would trust the
    /// new ones.
    pub async fn start(
        client: &Client,
        instance: &str,
        told: impl Fn(String) + Send + 'static,
    ) -> Result<(Self, watch::Receiver<ServerTls>), Error> {
        let secrets = Secrets {
            api: Api::default_namespaced(client.clone()),
            instance: instance.to_owned(),
        };
        let now = seconds();
        let authorities = secrets.authorities(now).await?;
        let (own, shown) = ServerCredentials::issue(&authorities, now)?;
        let (gateways, wanted) = watch::channel(BTreeSet::new());
        let renewal = Renewal { secrets, own };
        let task = tokio::spawn(renewal.run(wanted, told)).abort_handle();
        Ok((Self { gateways, task }, shown))
    }

    /// Keeps credentials for the proxies of these Gateways, `NAMESPACE/NAME`, from now on.
    pub fn keep(&self, gateways: BTreeSet<String>) {
        self.gateways.send_if_modified(|kept| {
            let differs = *kept != gateways;
            *kept = gateways;
            differs
        });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl From<CertificateError> for Error {
    fn from(error: CertificateError) -> Self {
        Self::Api(error.to_string())
    }
}

struct Renewal {
    secrets: Secrets,
    own: ServerCredentials,
}

impl Renewal {
    async fn run(mut self, mut wanted: watch::Receiver<BTreeSet<String>>, told: impl Fn(String)) {
        let mut trouble = String::new();
        loop {
            let gateways = wanted.borrow_and_update().clone();
            let faults = match self.renew(&gateways, seconds()).await {
                Ok(faults) => faults,
                Err(error) => vec![error.to_string()],
            };
            let text = faults.join("; ");
            if text != trouble && !text.is_empty() {
                told(format!("credentials of xDS: {text}"));
            }
            trouble = text;
            let wait = if trouble.is_empty() { LOOK } else { AGAIN };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Makes anew whatever is missing or due; tells which Gateways' credentials are not what they should be, and why. One that has
    /// none holds up no other.
    async fn renew(&mut self, gateways: &BTreeSet<String>, now: u64) -> Result<Vec<String>, Error> {
        // Read each time: another replica may have added one.
        let authorities = self.secrets.authorities(now).await?;
        self.own.renew(&authorities, now)?;
        let mut faults = Vec::new();
        for gateway in gateways {
            if let Err(error) = self.secrets.keep(gateway, &authorities, now).await {
                faults.push(format!("{gateway}: {error}"));
            }
        }
        if let Err(error) = self.secrets.forget(gateways, now).await {
            faults.push(format!("those of Gateways that are gone: {error}"));
        }
        Ok(faults)
    }
}

struct Secrets {
    api: Api<Secret>,
    instance: String,
}

impl Secrets {
    /// Reads the authorities, makes the first, or adds a successor in time. Of replicas that do it at once, one does.
    async fn authorities(&self, now: u64) -> Result<Authorities, Error> {
        let name = format!("{}-xds", self.instance);
        loop {
            let found = self.api.get_opt(&name).await?;
            let mut authorities = match &found {
                Some(secret) => read(&name, secret)?,
                None => Authorities::generate(now)?,
            };
            if found.is_some() && !authorities.renew(now)? {
                return Ok(authorities);
            }
            let entries = BTreeMap::from([(AUTHORITIES.to_owned(), ByteString(authorities.text().into_bytes()))]);
            if self.write(&name, "Opaque", found, entries).await? {
                return Ok(authorities);
            }
        }
    }

    /// Sees to it that a Gateway's proxies have credentials.
    async fn keep(&self, gateway: &str, authorities: &Authorities, now: u64) -> Result<(), Error> {
        let identity = Identity::of_cluster(gateway).ok_or_else(|| Error::Api("is no Gateway's name".to_owned()))?;
        let name = secret_of(&self.instance, gateway)
            .ok_or_else(|| Error::Api("the Gateway's name is too long".to_owned()))?;
        let found = self.api.get_opt(&name).await?;
        let known = found.as_ref().and_then(credentials);
        if known.is_some_and(|known| authorities.are_current(&known, &identity, now)) {
            return Ok(());
        }
        let Credentials {
            certificate,
            key,
            trusted,
        } = authorities.issue(&identity, now)?;
        let entries = ENTRIES.into_iter().zip([certificate, key, trusted]);
        let entries = entries.map(|(entry, text)| (entry.to_owned(), ByteString(text.into_bytes())));
        // Where another replica was faster, it made some as good.
        self.write(&name, TLS, found, entries.collect()).await.map(|_| ())
    }

    /// Removes the credentials of Gateways that are gone. Another replica may know of a Gateway that this one has not heard of yet: what
    /// was made a short while ago stays.
    async fn forget(&self, gateways: &BTreeSet<String>, now: u64) -> Result<(), Error> {
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={}", self.instance));
        let wanted: BTreeSet<String> = gateways
            .iter()
            .filter_map(|gateway| secret_of(&self.instance, gateway))
            .collect();
        for secret in self.api.list_metadata(&ours).await?.items {
            let metadata = secret.metadata;
            let made = metadata.creation_timestamp.map(|made| made.0.as_second());
            let made = made.and_then(|made| u64::try_from(made).ok()).unwrap_or(now);
            let Some(name) = metadata.name else { continue };
            if is_left_over(&self.instance, &name, &wanted) && now.saturating_sub(made) >= SETTLED {
                let parameters = DeleteParams::default().preconditions(Preconditions {
                    resource_version: metadata.resource_version,
                    uid: metadata.uid,
                });
                match self.api.delete(&name, &parameters).await {
                    Ok(_) => {}
                    // Another replica was faster, or needs it again.
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Writes a Secret over what was found; false if it is no longer that.
    async fn write(
        &self,
        name: &str,
        r#type: &str,
        found: Option<Secret>,
        entries: BTreeMap<String, ByteString>,
    ) -> Result<bool, Error> {
        let new = found.is_none();
        let mut secret = found.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), self.instance.clone())])),
                ..ObjectMeta::default()
            },
            type_: Some(r#type.to_owned()),
            ..Secret::default()
        });
        secret.data = Some(entries);
        let parameters = PostParams::default();
        let written = if new {
            self.api.create(&parameters, &secret).await
        } else {
            // With the version that was read.
            self.api.replace(name, &parameters, &secret).await
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The name of the Secret with the credentials of a Gateway's proxies. A namespace has no dot in its name: no two Gateways have one
/// Secret.
#[must_use]
pub fn secret_of(instance: &str, gateway: &str) -> Option<String> {
    let (namespace, name) = gateway.split_once('/')?;
    let name = format!("{instance}-xds.{namespace}.{name}");
    (name.len() <= MAX_NAME && !namespace.contains('.')).then_some(name)
}

/// Whether a Secret holds the credentials of a Gateway that is none of the wanted ones'.
fn is_left_over(instance: &str, name: &str, wanted: &BTreeSet<String>) -> bool {
    name.starts_with(&format!("{instance}-xds.")) && !wanted.contains(name)
}

fn read(name: &str, secret: &Secret) -> Result<Authorities, Error> {
    let text = entry(secret, AUTHORITIES).unwrap_or_default();
    Authorities::read(&text).map_err(|error| {
        Error::Api(format!(
            "Secret {name}: {AUTHORITIES} {error}; delete the Secret to have it made anew, and restart the proxies that then trust nobody"
        ))
    })
}

fn credentials(secret: &Secret) -> Option<Credentials> {
    let [certificate, key, trusted] = ENTRIES.map(|name| entry(secret, name));
    Some(Credentials {
        certificate: certificate?,
        key: key?,
        trusted: trusted?,
    })
}

fn entry(secret: &Secret, name: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(name)?;
    String::from_utf8(bytes.0.clone()).ok()
}

fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_gateways_have_one_secret() {
        let name = |gateway: &str| secret_of("portcullis", gateway);
        assert_eq!(name("edge/public").as_deref(), Some("portcullis-xds.edge.public"));
        let alike = ["a/b-c", "a-b/c", "a/b.c", "a-b-c/d"];
        let names: BTreeSet<_> = alike.into_iter().map(name).collect();
        assert_eq!(names.len(), alike.len());
        assert_eq!(name(&format!("edge/{}", "x".repeat(253))), None);
        assert_eq!(name("a.b/c"), None, "no namespace is called that");
        assert_eq!(name("public"), None);
    }

    #[test]
    fn only_credentials_of_gateways_can_be_left_over() {
        let wanted = BTreeSet::from(["portcullis-xds.edge.public".to_owned()]);
        let left = |name: &str| is_left_over("portcullis", name, &wanted);
        assert!(left("portcullis-xds.edge.gone"));
        for kept in [
            "portcullis-xds.edge.public",
            "portcullis-xds",
            "portcullis-salt",
            "other-xds.edge.gone",
        ] {
            assert!(!left(kept), "{kept}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_shown() {
        let secret = Secret {
            data: Some(BTreeMap::from([(
                AUTHORITIES.to_owned(),
                ByteString(b"hunter2".to_vec()),
            )])),
            ..Secret::default()
        };
        let error = read("portcullis-xds", &secret).err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(
            error.starts_with("Secret portcullis-xds: authorities.pem holds no pairs") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
