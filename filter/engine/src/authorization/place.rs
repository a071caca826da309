//! Conditions on the place of a client (`authorization.rules[].principal.clientIPGeoLocations`).

use crate::{
    document::GeoLocation,
    geography::{Field, Geography},
    host::Fault,
    policy::{PolicyError, told},
};

/// The longest region, in bytes.
const MAX_REGION: usize = 16;
/// The longest name of a city, in bytes.
const MAX_CITY: usize = 512;
/// The longest name of a provider, in bytes.
const MAX_ISP: usize = 1024;

/// A place: all parts must be the client's.
#[derive(Debug)]
pub(crate) struct PlaceRule {
    /// Compared without the case of ASCII letters.
    texts: Vec<(Field, Box<[u8]>)>,
    flags: Vec<(Field, bool)>,
}

impl PlaceRule {
    /// Compiles a place; `at` is where it stands.
    pub(crate) fn compile(at: &str, place: &GeoLocation) -> Result<Self, PolicyError> {
        let error =
            |field: &str, message: String| PolicyError::new(told!("{at}{field}"), "invalid-geo-location", message);
        let mut texts = Vec::new();
        if let Some(country) = &place.country {
            if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(error(".country", told!("{country:?} is not a country's two letters")));
            }
            texts.push((Field::Country, country.as_bytes().into()));
        }
        if let Some(region) = &place.region {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if !(1..=MAX_REGION).contains(&region.len()) || !region.bytes().all(fits) {
                let message = told!("{region:?} is not up to {MAX_REGION} letters, digits and -");
                return Err(error(".region", message));
            }
            texts.push((Field::Region, region.as_bytes().into()));
        }
        let names = [
            (&place.city, Field::City, ".city", MAX_CITY),
            (&place.isp, Field::Isp, ".isp", MAX_ISP),
        ];
        for (name, field, path, most) in names {
            let Some(name) = name else { continue };
            if name.is_empty() || name.len() > most {
                return Err(error(path, told!("the name has 1 to {most} bytes")));
            }
            texts.push((field, name.as_bytes().into()));
        }
        if let Some(asn) = place.asn {
            if asn == 0 {
                return Err(error(".asn", told!("no autonomous system has the number 0")));
            }
            texts.push((Field::Asn, asn.to_string().into_bytes().into()));
        }
        let mut flags = Vec::new();
        if let Some(anonymous) = &place.anonymous {
            let asked = [
                (Field::Anonymous, anonymous.is_anonymous),
                (Field::Vpn, anonymous.is_vpn),
                (Field::Hosting, anonymous.is_hosting),
                (Field::Tor, anonymous.is_tor),
                (Field::Proxy, anonymous.is_proxy),
            ];
            flags.extend(asked.into_iter().filter_map(|(field, wanted)| Some((field, wanted?))));
            if flags.is_empty() {
                return Err(error(".anonymous", told!("nothing is asked of the address")));
            }
        }
        if texts.is_empty() && flags.is_empty() {
            return Err(error("", told!("a place without a part would be everywhere")));
        }
        Ok(Self { texts, flags })
    }

    /// Tells whether the client is there.
    ///
    /// # Errors
    /// The proxy has no database that could tell.
    pub(crate) fn holds(&self, client: &Geography) -> Result<bool, Fault> {
        let mut holds = true;
        for (field, wanted) in &self.texts {
            let found = client.value(*field)?;
            holds &= found.is_some_and(|found| found.eq_ignore_ascii_case(wanted));
        }
        for (field, wanted) in &self.flags {
            // Such databases hold only addresses that hide somebody, and of those only what is true.
            let found = match client.value(*field)? {
                None | Some(b"false") => false,
                Some(b"true") => true,
                Some(_) => return Err(Fault),
            };
            holds &= found == *wanted;
        }
        Ok(holds)
    }
}
