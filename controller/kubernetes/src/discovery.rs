//! Which of the kinds that are read an API server has, and in which version.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Client, core::ApiResource};
use portcullis_manifest::KindInfo;

/// Each kind that is there, as it is asked for.
pub(crate) type Present = BTreeMap<&'static str, (KindInfo, ApiResource)>;

/// Asks for all kinds.
///
/// # Errors
///
/// The API server did not answer: what it has is then not known. A group that it does not have is no error.
pub(crate) async fn discover(client: &Client) -> Result<Present, kube::Error> {
    let groups = client.list_api_groups().await?.groups;
    let served: BTreeSet<String> = groups
        .into_iter()
        .flat_map(|group| group.versions)
        .map(|version| version.group_version)
        .collect();
    let mut present = Present::new();
    let mut known: BTreeMap<(&str, &str), Vec<(String, String)>> = BTreeMap::new();
    for kind in portcullis_manifest::kinds() {
        for version in kind.versions {
            if !kind.group.is_empty() && !served.contains(&format!("{}/{version}", kind.group)) {
                continue;
            }
            if !known.contains_key(&(kind.group, *version)) {
                known.insert((kind.group, version), resources(client, kind.group, version).await?);
            }
            let of_version = known.get(&(kind.group, *version)).into_iter().flatten();
            let Some((_, plural)) = of_version.into_iter().find(|(name, _)| name == kind.name) else {
                continue;
            };
            present.insert(kind.name, (kind, resource(kind, version, plural)));
            break;
        }
    }
    Ok(present)
}

fn resource(kind: KindInfo, version: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: version.to_owned(),
        api_version: if kind.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", kind.group)
        },
        kind: kind.name.to_owned(),
        plural: plural.to_owned(),
    }
}

/// The kinds of one version of a group, with their plurals; none if there is no such version.
async fn resources(client: &Client, group: &str, version: &str) -> Result<Vec<(String, String)>, kube::Error> {
    let list = if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(&format!("{group}/{version}")).await
    };
    match list {
        Ok(list) => {
            let whole = list
                .resources
                .into_iter()
                .filter(|resource| !resource.name.contains('/'));
            Ok(whole.map(|resource| (resource.kind, resource.name)).collect())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
