//! `portcullis unpack`: gives a pod's Envoy the filter, and this program for its probes. An image FROM scratch has no `cp`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{Answer, failure::Failure, wasm};

/// Where to.
#[derive(Args, Clone, Debug)]
pub(crate) struct UnpackArgs {
    /// The folder; it must be there.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// The filter's .wasm file [default: portcullis.wasm beside this executable].
    #[arg(long, value_name = "FILE")]
    pub wasm: Option<PathBuf>,
}

/// Copies the filter and this program into a folder, as `portcullis.wasm` and `portcullis`.
pub(crate) fn unpack(args: &UnpackArgs) -> Result<Answer, Failure> {
    let filter = wasm::locate(args.wasm.as_deref())?;
    // Envoy would refuse its whole configuration.
    wasm::verify(&filter)?;
    let program =
        std::env::current_exe().map_err(|error| Failure::new(format!("cannot find this executable: {error}"), ""))?;
    for (from, name, mode) in [(&filter, "portcullis.wasm", 0o444), (&program, "portcullis", 0o555)] {
        let to = args.folder.join(name);
        copy(from, &to, mode).map_err(|error| {
            Failure::new(
                format!("{}: {error}", to.display()),
                "name a folder that is there and may be written to",
            )
        })?;
    }
    Ok(Answer::Yes)
}

/// Replaces a file in one step: who reads it sees the old one or the new one.
fn copy(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    let half = to.with_extension("half");
    fs::copy(from, &half)?;
    fs::set_permissions(&half, fs::Permissions::from_mode(mode))?;
    fs::rename(half, to)
}
