//! The controller's own files: the key from which policies' salts are derived.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// The key's file in the state folder.
const KEY_FILE: &str = "salt.key";

/// The file about virtual hosts that proxies do not take.
pub(crate) const QUARANTINE_FILE: &str = "quarantine.json";

/// The state folder: the given one, else `$XDG_STATE_HOME/portcullis`, else `~/.local/state/portcullis`.
///
/// # Errors
///
/// None is given and neither variable is set.
pub(crate) fn folder(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The XDG base directory specification: a relative path is to be ignored.
    let state_home = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    given
        .map(Path::to_path_buf)
        .or_else(|| state_home.map(|path| path.join("portcullis")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/portcullis")))
        .ok_or_else(|| Failure::new("neither $XDG_STATE_HOME nor $HOME is set", "give --state-dir FOLDER"))
}

/// Makes a folder that only this user may enter, with its parents; one that exists stays as it is.
///
/// # Errors
///
/// As the operating system has it.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// As [`private_folder`], for files that are read again: one that another user made, who could put his own there, is
/// refused.
///
/// # Errors
///
/// As the operating system has it, or the folder belongs to someone other than this user and root.
pub(crate) fn own_folder(path: &Path) -> io::Result<()> {
    private_folder(path)?;
    belongs(&fs::metadata(path)?, rustix::process::geteuid().as_raw())
}

fn belongs(metadata: &fs::Metadata, user: u32) -> io::Result<()> {
    if metadata.uid() == user || metadata.uid() == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("belongs to user {}", metadata.uid())))
}

/// Writes a file that only this user may read, whole or not at all.
///
/// # Errors
///
/// As the operating system has it.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// The key of this state folder; made of 32 random bytes at the first use.
///
/// # Errors
///
/// The folder cannot be made, or the file cannot be read, has a wrong size, or others may read it.
pub(crate) fn salt_key(folder: &Path) -> Result<[u8; 32], Failure> {
    let path = folder.join(KEY_FILE);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map_err(|error| unusable(&path, &error)),
    }
    own_folder(folder).map_err(|error| unusable(folder, &error))?;
    let mut key = [0; 32];
    getrandom::fill(&mut key)
        .map_err(|error| Failure::new(format!("no random bytes: {error}"), "check the kernel's getrandom"))?;
    // A link is made only where there is none: of two that start at once, both use the key of the first.
    let new = folder.join(format!("{KEY_FILE}.{}.new", std::process::id()));
    write_private(&new, &key).map_err(|error| unusable(&new, &error))?;
    let linked = fs::hard_link(&new, &path);
    let _ = fs::remove_file(&new);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unusable(&path, &error)),
        _ => read(&path).map_err(|error| unusable(&path, &error)),
    }
}

/// The key of a state folder that a controller has used.
///
/// # Errors
///
/// None has, or the file is one that [`salt_key`] does not take.
pub(crate) fn kept_key(folder: &Path) -> Result<[u8; 32], Failure> {
    let path = folder.join(KEY_FILE);
    read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            format!("{}: no controller keeps its files there", folder.display()),
            "name the --state-dir of `portcullis run`",
        ),
        _ => unusable(&path, &error),
    })
}

/// Opens a file that only this user may read.
fn open_private(path: &Path) -> io::Result<fs::File> {
    let file = fs::File::open(path)?;
    // Whoever made the key knows it.
    belongs(&file.metadata()?, rustix::process::geteuid().as_raw())?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "others may read it: chmod 600, or delete it to get a new key",
        ));
    }
    Ok(file)
}

/// Reads a text that only this user may read, of at most 1 MiB.
///
/// # Errors
///
/// As the operating system has it, or others may read it.
pub(crate) fn read_private(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    open_private(path)?.take(1 << 20).read_to_string(&mut content)?;
    Ok(content)
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    let file = open_private(path)?;
    let mut content = Vec::new();
    file.take(33).read_to_end(&mut content)?;
    content
        .try_into()
        .map_err(|_| io::Error::other("does not hold 32 bytes: delete it to get a new key"))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!("{}: {error}", path.display()),
        "or give --state-dir another folder",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("deep/state");
        let key = salt_key(&folder).unwrap();
        assert_ne!(key, [0; 32]);
        assert_eq!(salt_key(&folder).unwrap(), key);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_another_user_made_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(root.path()).unwrap();
        assert!(belongs(&metadata, metadata.uid()).is_ok());
        assert!(own_folder(root.path()).is_ok());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(root.path(), Some(65534), None).unwrap();
            assert!(own_folder(root.path()).is_err());
            assert!(salt_key(root.path()).is_err());
        } else {
            assert!(belongs(&metadata, metadata.uid() + 1).is_err());
        }
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_cut_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(KEY_FILE);
        write_private(&path, &[1; 31]).unwrap();
        assert!(
            salt_key(root.path())
                .unwrap_err()
                .to_string()
                .contains("does not hold 32 bytes")
        );
        write_private(&path, &[1; 32]).unwrap();
        assert_eq!(salt_key(root.path()).unwrap(), [1; 32]);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(
            salt_key(root.path())
                .unwrap_err()
                .to_string()
                .contains("others may read it")
        );
    }
}
