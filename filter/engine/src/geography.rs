//! What databases say of the place of a client's address. The proxy looks it up and tells it in headers that no client can send.

use crate::host::Fault;

/// What the names of the headers begin with in which the proxy tells it. A proxy that tells it removes such headers of a client
/// before, and none of them reaches a backend.
pub const PREFIX: &str = "x-portcullis-geo-";

/// Something that a database says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The country, by its two letters (ISO 3166-1).
    Country,
    /// The largest part of the country that the address is in (ISO 3166-2, without the country).
    Region,
    /// The city, in English.
    City,
    /// The number of the autonomous system, decimal.
    Asn,
    /// The internet service provider.
    Isp,
    /// Whether the address hides its user in any way: `true` or `false`, as the other ones below.
    Anonymous,
    /// Whether it belongs to a virtual private network.
    Vpn,
    /// Whether it belongs to a hosting provider.
    Hosting,
    /// Whether it is a Tor exit node.
    Tor,
    /// Whether it is a public proxy.
    Proxy,
}

impl Field {
    /// Every field, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Country,
        Self::Region,
        Self::City,
        Self::Asn,
        Self::Isp,
        Self::Anonymous,
        Self::Vpn,
        Self::Hosting,
        Self::Tor,
        Self::Proxy,
    ];

    /// The name of the header, after [`PREFIX`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Region => "region",
            Self::City => "city",
            Self::Asn => "asn",
            Self::Isp => "isp",
            Self::Anonymous => "anonymous",
            Self::Vpn => "vpn",
            Self::Hosting => "hosting",
            Self::Tor => "tor",
            Self::Proxy => "proxy",
        }
    }

    /// The name of the header in which the proxy tells it.
    #[must_use]
    pub fn header(self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// What the proxy's databases say of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geography {
    /// What the proxy has a database for.
    served: Vec<Field>,
    values: Vec<(Field, Vec<u8>)>,
}

impl Geography {
    /// Nothing is known of the client; there are databases for these fields.
    #[must_use]
    pub const fn new(served: Vec<Field>) -> Self {
        Self {
            served,
            values: Vec::new(),
        }
    }

    /// Reads for what a proxy has databases: the names of fields, with spaces between them. A name that is not known is nothing
    /// that a rule could ask for.
    #[must_use]
    pub fn served(names: &[u8]) -> Vec<Field> {
        names.split(|byte| *byte == b' ').filter_map(Field::named).collect()
    }

    /// Takes what the proxy told out of a request's header lines, so that no other check finds it there.
    pub fn take(&mut self, headers: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        headers.retain_mut(|(name, value)| {
            let Some((start, rest)) = name.split_at_checked(PREFIX.len()) else {
                return true;
            };
            if !start.eq_ignore_ascii_case(PREFIX.as_bytes()) {
                return true;
            }
            if let Some(field) = Field::named(rest) {
                self.set(field, std::mem::take(value));
            }
            false
        });
    }

    /// Adds what a database says. What is said twice is not known.
    pub fn set(&mut self, field: Field, value: Vec<u8>) {
        if self.values.iter().any(|(other, _)| *other == field) {
            self.served.retain(|served| *served != field);
        } else {
            self.values.push((field, value));
        }
    }

    /// What a database says; `None` where it does not hold the address.
    ///
    /// # Errors
    /// The proxy has no database for the field, or told it twice.
    pub(crate) fn value(&self, field: Field) -> Result<Option<&[u8]>, Fault> {
        if !self.served.contains(&field) {
            return Err(Fault);
        }
        let found = self.values.iter().find(|(other, _)| *other == field);
        Ok(found.map(|(_, value)| value.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let line = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        lines.iter().map(line).collect()
    }

    #[test]
    fn what_the_proxy_told_is_in_no_header_afterwards() {
        let mut headers = lines(&[
            (":path", "/"),
            ("x-portcullis-geo-country", "AT"),
            ("X-Portcullis-Geo-Nothing", "1"),
            ("x-portcullis-geo", "2"),
            ("x-portcullis-geo-", "3"),
        ]);
        let mut geography = Geography::new(Field::ALL.to_vec());
        geography.take(&mut headers);
        assert_eq!(headers, lines(&[(":path", "/"), ("x-portcullis-geo", "2")]));
        assert_eq!(geography.value(Field::Country), Ok(Some(&b"AT"[..])));
        assert_eq!(geography.value(Field::City), Ok(None));
    }

    #[test]
    fn what_is_told_twice_is_not_known() {
        let mut headers = lines(&[("x-portcullis-geo-country", "AT"), ("x-portcullis-geo-country", "DE")]);
        let mut geography = Geography::new(Field::ALL.to_vec());
        geography.take(&mut headers);
        assert_eq!(geography.value(Field::Country), Err(Fault));
    }

    #[test]
    fn what_has_no_database_is_not_known() {
        let served = Geography::served(b"country  city unknown");
        assert_eq!(served, [Field::Country, Field::City]);
        let geography = Geography::new(served);
        assert_eq!(geography.value(Field::Country), Ok(None));
        assert_eq!(geography.value(Field::Tor), Err(Fault));
    }

    #[test]
    fn every_field_has_its_header() {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, place);
            assert_eq!(Field::named(field.name().as_bytes()), Some(field));
            assert!(field.header().starts_with(PREFIX));
        }
    }
}
