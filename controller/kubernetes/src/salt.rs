//! The key from which policies' salts are derived: a Secret that all replicas share, so that all serve the same names.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use crate::Error;

/// The entry of the Secret.
const ENTRY: &str = "salt.key";

/// Reads the key of the Secret `name` in the client's own namespace; where there is none, it is made of 32 random bytes. Of
/// replicas that make it at once, one does, and all have what it made.
///
/// # Errors
///
/// The API server does not let it be read or made, or it holds something else than a key: that is not replaced, for every
/// policy would get another name.
pub async fn salt_key(client: &Client, name: &str) -> Result<[u8; 32], Error> {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    if let Some(secret) = secrets.get_opt(name).await? {
        return key(name, &secret);
    }
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Api(format!("no random bytes: {error}")))?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some([(ENTRY.to_owned(), ByteString(bytes.to_vec()))].into()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(made) => key(name, &made),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => key(name, &secrets.get(name).await?),
        Err(error) => Err(error.into()),
    }
}

fn key(name: &str, secret: &Secret) -> Result<[u8; 32], Error> {
    let entry = secret.data.as_ref().and_then(|data| data.get(ENTRY));
    entry.and_then(|entry| entry.0.as_slice().try_into().ok()).ok_or_else(|| {
        let wanted = STANDARD.encode([0_u8; 32]).len();
        Error::Api(format!(
            "Secret {name}: {ENTRY} is not a key of 32 bytes ({wanted} characters of base64); delete the Secret to have it made anew"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_a_key_is_refused_and_not_shown() {
        let secret = |bytes: &[u8]| Secret {
            data: Some([(ENTRY.to_owned(), ByteString(bytes.to_vec()))].into()),
            ..Secret::default()
        };
        assert_eq!(key("salt", &secret(&[7; 32])).unwrap(), [7; 32]);
        let error = key("salt", &secret(b"hunter2")).unwrap_err().to_string();
        assert!(
            error.starts_with("Secret salt: salt.key is not a key") && !error.contains("hunter2"),
            "{error}"
        );
        assert!(key("salt", &Secret::default()).is_err());
    }
}
