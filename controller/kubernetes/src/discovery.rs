//! Which of the kinds that are read an API server has, and in which version.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Client, core::ApiResource};
use portcullis_manifest::KindInfo;

use crate::POLICIES;

/// Each kind that is there, as it is asked for.
pub(crate) type Present = BTreeMap<&'static str, (KindInfo, ApiResource)>;

/// What an API server has.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) present: Present,
    /// Kinds of policies that are there in none of the versions that are read, with the versions that are there. They are
    /// not absent: nobody knows what they restrict.
    pub(crate) unread: BTreeMap<&'static str, Vec<String>>,
}

/// By group and version, the kinds with their plurals.
type Resources = BTreeMap<(String, String), Vec<(String, String)>>;

/// Asks for all kinds.
///
/// # Errors
///
/// The API server did not answer: what it has is then not known. A group that it does not have is no error.
pub(crate) async fn discover(client: &Client) -> Result<Found, kube::Error> {
    let groups = client.list_api_groups().await?.groups.into_iter();
    let served: BTreeMap<String, Vec<String>> = groups
        .map(|group| {
            let versions = group.versions.into_iter().map(|version| version.version);
            (group.name, versions.collect())
        })
        .collect();
    let mut all = Resources::new();
    for (group, version) in asked(&served) {
        let kinds = resources(client, &group, &version).await?;
        all.insert((group, version), kinds);
    }
    Ok(find(&all))
}

/// The versions of groups that are asked for, of those that are served: the ones that are read, and all of a group that has
/// policies.
fn asked(served: &BTreeMap<String, Vec<String>>) -> BTreeSet<(String, String)> {
    let mut asked = BTreeSet::new();
    for kind in portcullis_manifest::kinds() {
        let group = kind.group.to_owned();
        if group.is_empty() {
            let versions = kind.versions.iter().map(|version| (*version).to_owned());
            asked.extend(versions.map(|version| (group.clone(), version)));
            continue;
        }
        let of_group = served.get(&group).into_iter().flatten();
        let versions =
            of_group.filter(|version| POLICIES.contains(&kind.name) || kind.versions.contains(&version.as_str()));
        asked.extend(versions.map(|version| (group.clone(), version.clone())));
    }
    asked
}

/// Finds the kinds that are read.
fn find(all: &Resources) -> Found {
    let mut found = Found::default();
    for kind in portcullis_manifest::kinds() {
        let plural = |version: &str| {
            let kinds = all.get(&(kind.group.to_owned(), version.to_owned()))?;
            let named = kinds.iter().find(|(name, _)| name == kind.name);
            named.map(|(_, plural)| plural.as_str())
        };
        let mut versions = kind.versions.iter();
        if let Some((version, plural)) = versions.find_map(|version| Some((version, plural(version)?))) {
            found.present.insert(kind.name, (kind, resource(kind, version, plural)));
        } else if POLICIES.contains(&kind.name) {
            let of_group = all.keys().filter(|(group, _)| group == kind.group);
            let there = of_group.filter(|(_, version)| plural(version).is_some());
            let there: Vec<String> = there.map(|(_, version)| version.clone()).collect();
            if !there.is_empty() {
                found.unread.insert(kind.name, there);
            }
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

    fn served(versions: &[&str]) -> Resources {
        let kinds = || {
            let named = [("Backend", "backends"), ("SecurityPolicy", "securitypolicies")];
            named
                .map(|(kind, plural)| (kind.to_owned(), plural.to_owned()))
                .to_vec()
        };
        let versions = versions.iter();
        let named = versions.map(|version| ((ENVOY_GATEWAY.to_owned(), (*version).to_owned()), kinds()));
        named.collect()
    }

    #[test]
    fn a_policy_that_is_there_in_another_version_is_not_absent() {
        let found = find(&served(&["v1", "v1beta1"]));
        assert!(found.present.is_empty());
        let unread: Vec<_> = found.unread.into_iter().collect();
        assert_eq!(
            unread,
            [("SecurityPolicy", vec!["v1".to_owned(), "v1beta1".to_owned()])],
            "a Backend restricts nothing"
        );
        let found = find(&served(&["v1", "v1alpha1"]));
        assert!(found.unread.is_empty());
        let resource = found.present.get("SecurityPolicy").map(|(_, resource)| resource);
        let resource = resource.map(|resource| (resource.api_version.as_str(), resource.plural.as_str()));
        assert_eq!(resource, Some(("gateway.envoyproxy.io/v1alpha1", "securitypolicies")));
    }

    #[test]
    fn versions_of_policies_that_are_not_read_are_asked_for() {
        let versions = |versions: &[&str]| versions.iter().map(|version| (*version).to_owned()).collect();
        let served = BTreeMap::from([
            (ENVOY_GATEWAY.to_owned(), versions(&["v1"])),
            ("discovery.k8s.io".to_owned(), versions(&["v1", "v2"])),
            ("apps".to_owned(), versions(&["v1"])),
        ]);
        let asked = asked(&served);
        let asked: Vec<_> = asked
            .iter()
            .map(|(group, version)| (group.as_str(), version.as_str()))
            .collect();
        assert_eq!(asked, [("", "v1"), ("discovery.k8s.io", "v1"), (ENVOY_GATEWAY, "v1")]);
    }
}
