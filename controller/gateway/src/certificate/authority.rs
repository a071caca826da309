//! Certificates of authorities, read whole before they are passed on.
//!
//! Envoy refuses everything that stands in the same resource as an authority's certificate that it cannot read, the listeners
//! of others included. So nothing is passed on as it was written: only certificates are, each read here at least as strictly
//! as there (DER, X.690; RFC 5280, section 4), and encoded anew.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::pair::{
    BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, TAGGED_0, blocks, element, expect, public_key,
    whole,
};

/// The certificates of PEM text (RFC 7468), as PEM text.
///
/// # Errors
///
/// Says what is wrong, without repeating any of it.
pub(super) fn read(pem: &[u8]) -> Result<Vec<u8>, &'static str> {
    let blocks = blocks(pem).ok_or("is not PEM")?;
    if blocks.iter().any(|(label, _)| label.contains("CRL")) {
        return Err("holds a revocation list, and none is followed");
    }
    let mut text = String::new();
    for (_, der) in blocks.iter().filter(|(label, _)| label == "CERTIFICATE") {
        certificate(der).ok_or("holds a certificate that cannot be read")?;
        encode(der, &mut text);
    }
    if text.is_empty() {
        return Err("holds no certificate");
    }
    Ok(text.into_bytes())
}

fn encode(der: &[u8], text: &mut String) {
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    // Lines of 64 characters.
    for line in der.chunks(48) {
        STANDARD.encode_string(line, text);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
}

const BOOLEAN: u8 = 0x01;
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SET: u8 = 0x31;
const TAGGED_3: u8 = 0xa3;

/// `id-ce`, 2.5.29: the extensions of RFC 5280 below it.
const STANDARD_EXTENSION: [u8; 2] = [0x55, 0x1d];

/// How deep elements may nest.
const MAX_DEPTH: usize = 16;

fn certificate(der: &[u8]) -> Option<()> {
    // The key is what the reader for pairs makes of it.
    public_key(der)?;
    let (body, outer) = expect(whole(der, SEQUENCE)?, SEQUENCE)?;
    // A version that is written is the third: the first goes unwritten, and nobody has the second.
    let (version_3, body) = match expect(body, TAGGED_0) {
        Some((version, body)) => {
            whole(version, INTEGER).filter(|version| *version == [2])?;
            (true, body)
        }
        None => (false, body),
    };
    let (serial, body) = expect(body, INTEGER)?;
    integer(serial).filter(|()| serial.len() <= 21)?;
    let (inner, body) = expect(body, SEQUENCE)?;
    let (issuer, body) = expect(body, SEQUENCE)?;
    let (validity, body) = expect(body, SEQUENCE)?;
    let (subject, body) = expect(body, SEQUENCE)?;
    let (key, body) = expect(body, SEQUENCE)?;
    let (signed_with, signature) = expect(outer, SEQUENCE)?;
    if inner != signed_with {
        return None;
    }
    algorithm(inner)?;
    name(issuer)?;
    name(subject)?;
    let validity = time(time(validity)?)?;
    let (of_key, bits) = expect(key, SEQUENCE)?;
    algorithm(of_key)?;
    whole_bytes(whole(bits, BIT_STRING)?)?;
    whole_bytes(whole(signature, BIT_STRING)?)?;
    let extensions = body.is_empty() || version_3 && extensions(whole(whole(body, TAGGED_3)?, SEQUENCE)?).is_some();
    (validity.is_empty() && extensions).then_some(())
}

/// The shortest form of an integer.
fn integer(content: &[u8]) -> Option<()> {
    let longer = match content {
        [] => true,
        [first, second, ..] => *first == 0 && *second < 0x80 || *first == 0xff && *second >= 0x80,
        [_] => false,
    };
    (!longer).then_some(())
}

/// A bit string of whole bytes.
fn whole_bytes(content: &[u8]) -> Option<()> {
    let (unused, bytes) = content.split_first()?;
    (*unused == 0 && !bytes.is_empty()).then_some(())
}

/// An object identifier whose numbers have 63 bits at most.
fn identifier(content: &[u8]) -> Option<()> {
    content.last().filter(|last| **last < 0x80)?;
    let mut numbers = content.split_inclusive(|byte| *byte < 0x80);
    let fits = |number: &[u8]| number.len() <= 9 && number.first() != Some(&0x80);
    numbers.all(fits).then_some(())
}

fn algorithm(content: &[u8]) -> Option<()> {
    let (kind, parameters) = expect(content, OBJECT_IDENTIFIER)?;
    identifier(kind)?;
    if parameters.is_empty() {
        return Some(());
    }
    one(parameters)
}

/// One element and those in it.
fn one(der: &[u8]) -> Option<()> {
    let (_, _, rest) = element(der)?;
    elements(der, MAX_DEPTH).filter(|()| rest.is_empty())
}

/// Elements and those in them.
fn elements(mut der: &[u8], depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    while !der.is_empty() {
        let (tag, content, rest) = element(der)?;
        let (universal, constructed) = (tag & 0xc0 == 0, tag & 0x20 != 0);
        match tag {
            0 => return None,
            BOOLEAN => boolean(content).map(drop)?,
            INTEGER => integer(content)?,
            OBJECT_IDENTIFIER => identifier(content)?,
            _ if universal && constructed != matches!(tag & 0x1f, 0x10 | 0x11) => return None,
            _ if constructed => elements(content, depth)?,
            _ => {}
        }
        der = rest;
    }
    Some(())
}

fn boolean(content: &[u8]) -> Option<bool> {
    match content {
        [0] => Some(false),
        [0xff] => Some(true),
        _ => None,
    }
}

/// A distinguished name: sets of attributes.
fn name(mut content: &[u8]) -> Option<()> {
    if content.is_empty() {
        return None;
    }
    while !content.is_empty() {
        let (mut set, rest) = expect(content, SET)?;
        if set.is_empty() {
            return None;
        }
        let mut before: &[u8] = &[];
        while !set.is_empty() {
            let (attribute, others) = expect(set, SEQUENCE)?;
            let (kind, value) = expect(attribute, OBJECT_IDENTIFIER)?;
            identifier(kind)?;
            let (tag, text, after) = element(value)?;
            string(tag, text).filter(|()| after.is_empty())?;
            let written = set.get(..set.len().checked_sub(others.len())?)?;
            if written <= before {
                return None;
            }
            (before, set) = (written, others);
        }
        content = rest;
    }
    Some(())
}

/// Text in one of the forms that names have.
fn string(tag: u8, text: &[u8]) -> Option<()> {
    let valid = match tag {
        UTF8_STRING => std::str::from_utf8(text).ok()?.chars().all(is_assignable),
        NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING => text.is_ascii(),
        TELETEX_STRING => true,
        BMP_STRING => {
            let (units, rest) = text.as_chunks::<2>();
            let mut units = units.iter().map(|unit| u32::from(u16::from_be_bytes(*unit)));
            rest.is_empty() && units.all(|unit| char::from_u32(unit).is_some_and(is_assignable))
        }
        _ => false,
    };
    (valid && !text.is_empty()).then_some(())
}

/// Whether a character is none of those that will never be one (Unicode, noncharacters).
fn is_assignable(character: char) -> bool {
    let code = u32::from(character);
    !(0xfdd0..=0xfdef).contains(&code) && code & 0xfffe != 0xfffe
}

/// Reads a time, and tells what follows.
fn time(der: &[u8]) -> Option<&[u8]> {
    let (tag, text, rest) = element(der)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => text.split_at_checked(2)?,
        GENERALIZED_TIME => text.split_at_checked(4)?,
        _ => return None,
    };
    if text.len() != 10 || !year.bytes().chain(text.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: u32 = year.parse().ok()?;
    let year = match tag {
        UTC_TIME if year < 50 => year + 2000,
        UTC_TIME => year + 1900,
        _ => year,
    };
    let part = |at: usize| text.get(at..at + 2)?.parse::<u32>().ok();
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match part(0)? {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let in_range = (1..=days).contains(&part(2)?) && part(4)? < 24 && part(6)? < 60 && part(8)? < 60;
    (year >= 1950 && in_range).then_some(rest)
}

/// Extensions, none of them twice.
fn extensions(mut content: &[u8]) -> Option<()> {
    let mut seen: Vec<&[u8]> = Vec::new();
    if content.is_empty() {
        return None;
    }
    while !content.is_empty() {
        let (extension, rest) = expect(content, SEQUENCE)?;
        let (kind, fields) = expect(extension, OBJECT_IDENTIFIER)?;
        identifier(kind)?;
        let value = match expect(fields, BOOLEAN) {
            Some((critical, value)) => boolean(critical).map(|_| value)?,
            None => fields,
        };
        let value = whole(value, OCTET_STRING)?;
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        if kind.starts_with(&STANDARD_EXTENSION) {
            one(value)?;
        }
        content = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = include_str!("../../testdata/certificates/ec.crt");

    fn pem(label: &str, der: &[u8]) -> String {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(der)
        )
    }

    fn der() -> Vec<u8> {
        blocks(CERTIFICATE.as_bytes()).unwrap().remove(0).1
    }

    #[test]
    fn passes_certificates_on_and_nothing_else() {
        for certificate in [
            CERTIFICATE,
            include_str!("../../testdata/certificates/rsa.crt"),
            include_str!("../../testdata/certificates/ed25519.crt"),
        ] {
            let read = read(certificate.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(read).unwrap(), certificate);
        }
        let more = format!(
            "# ours\n{CERTIFICATE}{}\nand{CERTIFICATE}{}",
            pem("PRIVATE KEY", b"secret"),
            pem("TRUSTED CERTIFICATE", b"garbage"),
        );
        let twice = format!("{CERTIFICATE}{CERTIFICATE}");
        assert_eq!(String::from_utf8(read(more.as_bytes()).unwrap()).unwrap(), twice);
    }

    #[test]
    fn says_why_it_refuses() {
        let list = |label| format!("{CERTIFICATE}{}", pem(label, &[SEQUENCE, 0]));
        let unread = "holds a certificate that cannot be read";
        for (text, why) in [
            (list("X509 CRL"), "holds a revocation list, and none is followed"),
            (list("CERTIFICATE"), unread),
            (pem("CERTIFICATE", &[der(), vec![0]].concat()), unread),
            (pem("X509 CERTIFICATE", &der()), "holds no certificate"),
            ("ca".to_owned(), "holds no certificate"),
            (CERTIFICATE.split_at(200).0.to_owned(), "is not PEM"),
        ] {
            assert_eq!(read(text.as_bytes()), Err(why), "{text}");
        }
    }

    /// What lies in a well-formed sequence is read too.
    #[test]
    fn refuses_garbage_inside_of_what_is_well_formed() {
        assert!(certificate(&der()).is_some());
        let replaced = |from: &[u8], to: &[u8]| {
            let mut der = der();
            let at = der.windows(from.len()).position(|window| window == from).unwrap();
            der[at..at + from.len()].copy_from_slice(to);
            certificate(&der)
        };
        for (from, to) in [
            // Validity: no digits, no such month, no time at all.
            (b"261125".as_slice(), b"26112x".as_slice()),
            (b"261125", b"261325"),
            (b"\x17\x0d261125", b"\x04\x0d261125"),
            // A name that is no UTF-8, and one that is no text.
            (b"\x0c\x0bexample", b"\x0c\x0bex\xffmple"),
            (b"\x0c\x0bexample", b"\x02\x0bexample"),
            // Basic constraints that are cut off, a flag that is neither true nor false, and an extension that is there twice.
            (b"\x04\x05\x30\x03\x01\x01\xff", b"\x04\x05\x30\x03\x01\x02\xff"),
            (b"\x01\x01\xff\x04\x05\x30\x03", b"\x01\x01\x07\x04\x05\x30\x03"),
            (b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e"),
            // An object identifier that does not end, and a version that is none.
            (b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\xa3"),
            (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
        ] {
            assert!(replaced(from, to).is_none(), "{from:x?} {to:x?}");
        }
    }

    #[test]
    fn times_are_those_of_a_calendar() {
        let time = |tag, text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            time(&[&[tag, length], text.as_bytes()].concat()).is_some()
        };
        for (text, valid) in [
            ("240229235959Z", true),
            ("230229000000Z", false),
            ("000229000000Z", true),
            ("240230000000Z", false),
            ("240001000000Z", false),
            ("240101240000Z", false),
            ("240101006000Z", false),
            ("240101000060Z", false),
            ("2401010000Z", false),
            ("240101000000+0100", false),
        ] {
            assert_eq!(time(UTC_TIME, text), valid, "{text}");
        }
        for (text, valid) in [
            ("21000229000000Z", false),
            ("99991231235959Z", true),
            ("20500101000000.5Z", false),
            ("00000101000000Z", false),
        ] {
            assert_eq!(time(GENERALIZED_TIME, text), valid, "{text}");
        }
    }

    /// Every truncation and every changed byte is read without a panic.
    #[test]
    fn reads_any_bytes() {
        let whole = der();
        for length in 0..whole.len() {
            assert!(certificate(&whole[..length]).is_none());
            for value in 0..=u8::MAX {
                let mut changed = whole.clone();
                changed[length] = value;
                let _ = certificate(&changed);
            }
        }
    }
}
