//! Where the built artefacts are. Tests never build: what is tested is what is shipped.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The top of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
        .to_path_buf()
}

/// The controller, `dist/portcullis`.
#[must_use]
pub fn controller() -> PathBuf {
    required(dist().join("portcullis"), "make build")
}

/// The filter, `dist/portcullis.wasm`.
#[must_use]
pub fn filter() -> PathBuf {
    required(dist().join("portcullis.wasm"), "make build")
}

/// The filter that breaks on demand, `dist/faults/portcullis.wasm`.
#[must_use]
pub fn faults_filter() -> PathBuf {
    required(dist().join("faults/portcullis.wasm"), "make faults")
}

/// The same with its switch turned, so that `on_configure` fails in every worker and only there; written to `file`.
///
/// # Panics
/// If the switch does not stand in the module exactly once.
pub fn write_unconfigurable_filter(file: &Path) {
    const OFF: &[u8] = b"portcullis-faults-configure=off";
    const ON: &[u8] = b"portcullis-faults-configure=on ";
    let mut module = fs::read(faults_filter()).expect("the module can be read");
    let places: Vec<usize> = module
        .windows(OFF.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == OFF)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1, "the switch stands once");
    module[places[0]..places[0] + ON.len()].copy_from_slice(ON);
    fs::write(file, module).expect("the module can be written");
}

/// Stock Envoy, from `PORTCULLIS_ENVOY` or the cache.
#[must_use]
pub fn envoy() -> PathBuf {
    let path = env::var_os("PORTCULLIS_ENVOY").map_or_else(|| cache().join("envoy/1.40.0/envoy"), PathBuf::from);
    required(path, "make envoy")
}

/// Where everything downloaded or built once is kept.
#[must_use]
pub fn cache() -> PathBuf {
    let own = env::var_os("PORTCULLIS_CACHE").map(PathBuf::from);
    let shared = || env::var_os("XDG_CACHE_HOME").map(|folder| PathBuf::from(folder).join("portcullis"));
    let home = || env::var_os("HOME").map(|folder| PathBuf::from(folder).join(".cache/portcullis"));
    own.or_else(shared)
        .or_else(home)
        .expect("HOME, XDG_CACHE_HOME or PORTCULLIS_CACHE is set")
}

fn dist() -> PathBuf {
    env::var_os("PORTCULLIS_DIST").map_or_else(|| root().join("dist"), PathBuf::from)
}

fn required(path: PathBuf, command: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `{command}`", path.display());
    path
}
