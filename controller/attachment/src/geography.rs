//! The databases of places that a Gateway's proxies have (`EnvoyProxy.spec.geoIP`), and what policies ask of them.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::gateways::Gateway;
use portcullis_api::envoy_proxy::{DatabaseSource, EnvoyProxy, GeoIpProviderType, MaxMind};
use portcullis_engine::{
    document::{Document, GeoLocation},
    geography::Field,
};

use crate::{
    binding::managed_gateways,
    fault::{Fault, Feature},
    listener_set::parent,
    object::{self, ListenerRef, POLICY_GROUP},
    snapshot::Snapshot,
    status::ParentRef,
};

const KIND: &str = "EnvoyProxy";

/// The files of the databases that proxies have, as the proxies see them; none where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases {
    /// Countries, regions and cities.
    pub city: Option<String>,
    /// Countries; where there is none, `city` tells those.
    pub country: Option<String>,
    /// Autonomous systems.
    pub asn: Option<String>,
    /// Internet service providers.
    pub isp: Option<String>,
    /// Addresses that hide their users.
    pub anonymous: Option<String>,
}

impl Databases {
    fn of(max_mind: &MaxMind) -> Self {
        let path = |source: &Option<DatabaseSource>| source.as_ref().map(|source| source.local.path.clone());
        Self {
            city: path(&max_mind.city_db_source),
            country: path(&max_mind.country_db_source),
            asn: path(&max_mind.asn_db_source),
            isp: path(&max_mind.isp_db_source),
            anonymous: path(&max_mind.anonymous_ip_db_source),
        }
    }

    /// Returns what the databases tell, in the order of [`Field::ALL`].
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        Field::ALL.into_iter().filter(|field| self.tell(*field)).collect()
    }

    const fn tell(&self, field: Field) -> bool {
        match field {
            Field::Country => self.country.is_some() || self.city.is_some(),
            Field::Region | Field::City => self.city.is_some(),
            Field::Asn => self.asn.is_some(),
            Field::Isp => self.isp.is_some(),
            Field::Anonymous | Field::Vpn | Field::Hosting | Field::Tor | Field::Proxy => self.anonymous.is_some(),
        }
    }
}

/// What the parameters of a Gateway, or else of its class, lead to (`spec.infrastructure.parametersRef`,
/// `GatewayClass.spec.parametersRef`).
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'a> {
    /// There are none, or they are of another kind.
    None,
    /// An `EnvoyProxy`.
    Proxy(&'a EnvoyProxy),
    /// One that does not exist; whether the Gateway names it itself.
    Missing {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// Whether the Gateway names it, or its class does.
        own: bool,
    },
}

/// Follows the parameters of a Gateway. What the Gateway says counts, even where it leads nowhere.
#[must_use]
pub fn parameters<'a>(snapshot: &'a Snapshot, gateway: &'a Gateway) -> Parameters<'a> {
    let of_gateway = gateway.spec.infrastructure.as_ref();
    if let Some(reference) = of_gateway.and_then(|infrastructure| infrastructure.parameters_ref.as_ref()) {
        if reference.group != POLICY_GROUP || reference.kind != KIND {
            return Parameters::None;
        }
        let namespace = object::namespace(&gateway.metadata);
        return named(snapshot, namespace, &reference.name, true);
    }
    let mut classes = snapshot.gateway_classes.iter();
    let class = classes.find(|class| object::name(&class.metadata) == gateway.spec.gateway_class_name);
    match class.and_then(|class| class.spec.parameters_ref.as_ref()) {
        Some(reference) if reference.group == POLICY_GROUP && reference.kind == KIND => {
            let namespace = reference.namespace.as_deref().unwrap_or_default();
            named(snapshot, namespace, &reference.name, false)
        }
        _ => Parameters::None,
    }
}

fn named<'a>(snapshot: &'a Snapshot, namespace: &'a str, name: &'a str, own: bool) -> Parameters<'a> {
    let mut proxies = snapshot.envoy_proxies.iter();
    let found =
        proxies.find(|proxy| object::namespace(&proxy.metadata) == namespace && object::name(&proxy.metadata) == name);
    found.map_or(Parameters::Missing { namespace, name, own }, |proxy| {
        Parameters::Proxy(proxy)
    })
}

/// The databases that a Gateway's proxies have; `None` without any.
#[must_use]
pub fn databases(snapshot: &Snapshot, gateway: &Gateway) -> Option<Databases> {
    let Parameters::Proxy(proxy) = parameters(snapshot, gateway) else {
        return None;
    };
    let provider = &proxy.spec.geo_ip.as_ref()?.provider;
    if provider.r#type != GeoIpProviderType::MaxMind {
        return None;
    }
    let databases = Databases::of(provider.max_mind.as_ref()?);
    (!databases.fields().is_empty()).then_some(databases)
}

/// What every Gateway of this controller has databases for.
#[derive(Debug, Default)]
pub(crate) struct Geography<'a> {
    /// By namespace and name.
    gateways: BTreeMap<(&'a str, &'a str), Vec<Field>>,
    /// The Gateways of ListenerSets.
    sets: BTreeMap<(&'a str, &'a str), (&'a str, &'a str)>,
}

impl<'a> Geography<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, controller_name: &str) -> Self {
        let gateways = managed_gateways(snapshot, controller_name).into_iter();
        let gateways = gateways.filter_map(|gateway| {
            let name = (object::namespace(&gateway.metadata), object::name(&gateway.metadata));
            Some((name, databases(snapshot, gateway)?.fields()))
        });
        let sets = snapshot.listener_sets.iter().filter_map(|set| {
            let name = (object::namespace(&set.metadata), object::name(&set.metadata));
            Some((name, parent(set)?))
        });
        Self {
            gateways: gateways.collect(),
            sets: sets.collect(),
        }
    }

    /// What a policy asks that the proxies of a listener cannot tell.
    pub(crate) fn lack_on(&self, document: &Document, listener: &ListenerRef) -> Vec<Fault> {
        self.lack(document, (&listener.namespace, &listener.gateway))
    }

    /// What a policy asks that the proxies of an ancestor cannot tell.
    pub(crate) fn lack_at(&self, document: &Document, ancestor: &ParentRef) -> Vec<Fault> {
        let name = (ancestor.namespace.as_str(), ancestor.name.as_str());
        if ancestor.kind == "ListenerSet" {
            let gateway = self.sets.get(&name).copied();
            return self.lack(document, gateway.unwrap_or_default());
        }
        self.lack(document, name)
    }

    fn lack(&self, document: &Document, gateway: (&str, &str)) -> Vec<Fault> {
        let rules = document.authorization.iter().flat_map(|part| &part.rules).enumerate();
        let served = self.gateways.get(&gateway);
        let mut told = BTreeSet::new();
        let mut faults = Vec::new();
        for (index, rule) in rules {
            for (place, location) in rule.geo_locations.iter().enumerate() {
                for (field, names) in asked(location) {
                    let names = match served {
                        None => "provider",
                        Some(served) if served.contains(&field) => continue,
                        Some(_) => names,
                    };
                    if told.insert(names) {
                        let of = match served {
                            None => "authorization clientIPGeoLocations".to_owned(),
                            Some(_) => format!("authorization clientIPGeoLocations {}", group(field)),
                        };
                        let path = format!("spec.authorization.rules[{index}].principal.clientIPGeoLocations[{place}]");
                        let (namespace, name) = gateway;
                        faults.push(Fault {
                            feature: Feature::Authorization,
                            code: "no-geo-database",
                            path,
                            message: format!(
                                "Gateway {namespace}/{name} has no database for it: EnvoyProxy.spec.geoIP.{names}"
                            ),
                            fix: Some(
                                "name the database in an EnvoyProxy that the Gateway's or its class's parametersRef names"
                                    .to_owned(),
                            ),
                            condition: format!("{of} requires EnvoyProxy.spec.geoIP.{names} to be configured"),
                        });
                    }
                }
            }
        }
        faults
    }
}

/// The name of what is asked, as policies write it.
const fn group(field: Field) -> &'static str {
    match field {
        Field::Country => "country",
        Field::Region => "region",
        Field::City => "city",
        Field::Asn => "asn",
        Field::Isp => "isp",
        Field::Anonymous | Field::Vpn | Field::Hosting | Field::Tor | Field::Proxy => "anonymous",
    }
}

/// What a place asks, with the databases that could tell.
fn asked(place: &GeoLocation) -> impl Iterator<Item = (Field, &'static str)> {
    let fields = [
        (
            place.country.is_some(),
            Field::Country,
            "provider.maxMind.countryDbSource or cityDbSource",
        ),
        (place.region.is_some(), Field::Region, "provider.maxMind.cityDbSource"),
        (place.city.is_some(), Field::City, "provider.maxMind.cityDbSource"),
        (place.asn.is_some(), Field::Asn, "provider.maxMind.asnDbSource"),
        (place.isp.is_some(), Field::Isp, "provider.maxMind.ispDbSource"),
        (
            place.anonymous.is_some(),
            Field::Anonymous,
            "provider.maxMind.anonymousIpDbSource",
        ),
    ];
    let fields = fields.into_iter().filter(|(asked, ..)| *asked);
    fields.map(|(_, field, names)| (field, names))
}
