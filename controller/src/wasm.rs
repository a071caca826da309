//! What the filter's file says about itself.

use std::path::{Path, PathBuf};

use portcullis_engine::document;

use crate::failure::Failure;

/// The name of the custom section in which the filter says what it can decode.
const SECTION: &str = "portcullis";

/// What the filter says about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Declaration {
    /// The filter's version.
    pub version: String,
    /// The versions of the policy document that it decodes.
    pub documents: Vec<u32>,
}

/// The absolute path of the filter: the given one, or `portcullis.wasm` beside this executable.
///
/// # Errors
///
/// The executable's own path is unknown.
pub(crate) fn locate(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot find this executable: {error}"), "give --wasm FILE"))?
            .with_file_name("portcullis.wasm"),
    };
    std::path::absolute(&path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display()), "give --wasm an absolute path"))
}

/// Reads the filter's declaration and makes sure that it decodes what this build writes.
///
/// # Errors
///
/// The file is missing, is no filter of ours, or does not decode this build's documents.
pub(crate) fn verify(path: &Path) -> Result<Declaration, Failure> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(
            format!("{shown}: the filter is missing"),
            "build it with `make build`, or give --wasm FILE",
        ),
        _ => Failure::new(format!("{shown}: {error}"), "give --wasm a readable file"),
    })?;
    let declaration = declaration(&bytes).map_err(|reason| {
        Failure::new(
            format!("{shown}: {reason}"),
            "give --wasm the portcullis.wasm that came with this controller",
        )
    })?;
    if !declaration.documents.contains(&document::VERSION) {
        return Err(Failure::new(
            format!(
                "{shown}: filter {} decodes policy documents {:?}, this controller writes {}",
                declaration.version,
                declaration.documents,
                document::VERSION
            ),
            "upgrade the filter first, then the controller",
        ));
    }
    Ok(declaration)
}

/// Finds the declaration in a module's bytes.
fn declaration(bytes: &[u8]) -> Result<Declaration, String> {
    let section = custom_section(bytes, SECTION)?
        .ok_or_else(|| format!("has no custom section `{SECTION}`: it is not this project's filter"))?;
    serde_json::from_slice(section).map_err(|error| format!("custom section `{SECTION}`: {error}"))
}

/// The content of a module's custom section (WebAssembly core specification 2.0, §5.5.3).
fn custom_section<'a>(bytes: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, String> {
    let mut rest = bytes
        .strip_prefix(b"\0asm\x01\0\0\0")
        .ok_or("is not a WebAssembly module")?;
    while let Some((&id, after)) = rest.split_first() {
        let (section, after) = sized(after).ok_or("is cut short")?;
        if id == 0 {
            let (found, content) = sized(section).ok_or("is cut short")?;
            if found == name.as_bytes() {
                return Ok(Some(content));
            }
        }
        rest = after;
    }
    Ok(None)
}

/// Splits off a vector of bytes with its LEB128 length.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(sections: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        for (id, content) in sections {
            bytes.push(*id);
            // Two bytes of length, so that the multi-byte form is read too.
            bytes.push(u8::try_from(content.len() % 128).unwrap() | 0x80);
            bytes.push(u8::try_from(content.len() / 128).unwrap());
            bytes.extend_from_slice(content);
        }
        bytes
    }

    #[test]
    fn the_declaration_is_found_among_other_sections() {
        let padding = [7_u8; 300];
        let bytes = module(&[
            (1, &padding),
            (0, b"\x04nameportcullis"),
            (0, b"\x0aportcullis{\"version\":\"0.1.0\",\"documents\":[1]}"),
        ]);
        assert_eq!(
            declaration(&bytes),
            Ok(Declaration {
                version: "0.1.0".to_owned(),
                documents: vec![1]
            })
        );
    }

    #[test]
    fn what_is_no_filter_says_why() {
        assert_eq!(declaration(b"#!/bin/sh").unwrap_err(), "is not a WebAssembly module");
        assert!(
            declaration(&module(&[]))
                .unwrap_err()
                .starts_with("has no custom section `portcullis`")
        );
        let cut = &module(&[(1, &[0; 200])])[..50];
        assert_eq!(declaration(cut).unwrap_err(), "is cut short");
        assert!(
            declaration(&module(&[(0, b"\x0aportcullis{}")]))
                .unwrap_err()
                .starts_with("custom section")
        );
    }

    #[test]
    fn a_filter_that_is_too_old_is_refused_with_the_order_of_upgrades() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.wasm");
        std::fs::write(
            &path,
            module(&[(0, b"\x0aportcullis{\"version\":\"9\",\"documents\":[7]}")]),
        )
        .unwrap();
        let failure = verify(&path).unwrap_err().to_string();
        assert!(
            failure.contains("filter 9 decodes policy documents [7], this controller writes 1"),
            "{failure}"
        );
        assert!(
            failure.ends_with("upgrade the filter first, then the controller"),
            "{failure}"
        );
    }
}
