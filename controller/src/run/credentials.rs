//! Who is who on xDS over TCP: the authorities that this controller keeps in its state folder, and a folder of credentials for
//! each Gateway, to be given to its proxies; or Secrets of a cluster.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use portcullis_xds::{Authorities, Credentials, Identity, ServerCredentials, ServerTls};
use tokio::sync::watch;

use crate::{failure::Failure, state};

/// The folder in the state folder.
const FOLDER: &str = "xds";
/// The file with the authorities and their keys.
const AUTHORITIES: &str = "authorities.pem";
/// The certificate, its key, and the certificates of the authorities.
const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Keeps credentials up to date.
pub(crate) enum Keeper {
    /// In a folder.
    Folder(Box<Folder>),
    /// In Secrets.
    Cluster(portcullis_kubernetes::Keeper),
}

impl Keeper {
    /// Makes anew whatever is missing or due, for these Gateways and no others.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or there are no random bytes. What was there before stays. What goes wrong with Secrets is told
    /// elsewhere.
    pub(crate) fn renew<'g>(&mut self, gateways: impl Iterator<Item = &'g str>, now: u64) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.renew(gateways, now),
            Self::Cluster(keeper) => {
                keeper.keep(gateways.map(str::to_owned).collect());
                Ok(())
            }
        }
    }
}

/// Credentials in a state folder.
pub(crate) struct Folder {
    folder: PathBuf,
    authorities: Authorities,
    own: ServerCredentials,
}

impl Folder {
    /// Reads the authorities of a state folder, or makes the first; the receiver has what this controller shows.
    ///
    /// # Errors
    ///
    /// They cannot be read, or there are no random bytes.
    pub(crate) fn open(state: &Path, now: u64) -> Result<(Self, watch::Receiver<ServerTls>), Failure> {
        let folder = state.join(FOLDER);
        state::own_folder(&folder).map_err(|error| unusable(&folder, &error))?;
        let path = folder.join(AUTHORITIES);
        let authorities = match state::read_private(&path) {
            Ok(text) => Authorities::read(&text)
                .map_err(|error| unusable(&path, &io::Error::other(format!("{error}; delete it to get new ones"))))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let authorities = Authorities::generate(now).map_err(|error| not_made(&error))?;
                state::write_private(&path, authorities.text().as_bytes()).map_err(|error| unusable(&path, &error))?;
                authorities
            }
            Err(error) => return Err(unusable(&path, &error)),
        };
        let (own, shown) = ServerCredentials::issue(&authorities, now).map_err(|error| not_made(&error))?;
        let keeper = Self {
            folder,
            authorities,
            own,
        };
        Ok((keeper, shown))
    }

    /// Makes anew whatever is missing or due, for these Gateways and no others.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or there are no random bytes. What was there before stays.
    fn renew<'g>(&mut self, gateways: impl Iterator<Item = &'g str>, now: u64) -> Result<(), Failure> {
        let path = self.folder.join(AUTHORITIES);
        if self.authorities.renew(now).map_err(|error| not_made(&error))? {
            state::write_private(&path, self.authorities.text().as_bytes()).map_err(|error| unusable(&path, &error))?;
        }
        let renewed = self.own.renew(&self.authorities, now);
        renewed.map_err(|error| not_made(&error))?;
        let mut kept = BTreeSet::new();
        for gateway in gateways {
            // Every Gateway that is served has a name; a folder is made of nothing else.
            let Some(identity) = Identity::of_cluster(gateway) else {
                continue;
            };
            let folder = self.folder.join(gateway);
            kept.insert(folder.clone());
            let current =
                read(&folder).is_some_and(|credentials| self.authorities.are_current(&credentials, &identity, now));
            if !current {
                let made = self
                    .authorities
                    .issue(&identity, now)
                    .map_err(|error| not_made(&error))?;
                write(&folder, &made).map_err(|error| unusable(&folder, &error))?;
            }
        }
        self.forget(&kept);
        Ok(())
    }

    /// Removes the credentials of Gateways that are gone.
    fn forget(&self, kept: &BTreeSet<PathBuf>) {
        let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        for gateway in folders(&self.folder).flat_map(|namespace| folders(&namespace.path())) {
            if !kept.contains(&gateway.path()) && gateway.path().is_dir() {
                // Nobody is served by them; next time they are looked at again.
                let _ = fs::remove_dir_all(gateway.path());
            }
        }
    }
}

/// The files of a Gateway's credentials: those that people and other tools read, and those that Envoy does.
pub(crate) fn files(credentials: &Credentials) -> Vec<(&'static str, String)> {
    let [certificate, key, trusted] = FILES;
    let Credentials {
        certificate: own,
        key: secret,
        trusted: all,
    } = credentials;
    let controller = Identity::Controller.to_string();
    [
        (certificate, own.clone()),
        (key, secret.clone()),
        (trusted, all.clone()),
    ]
    .into_iter()
    .chain(portcullis_gateway::credentials(own, secret, all, &controller))
    .collect()
}

fn read(folder: &Path) -> Option<Credentials> {
    let [certificate, key, trusted] = FILES.map(|name| state::read_private(&folder.join(name)).ok());
    let credentials = Credentials {
        certificate: certificate?,
        key: key?,
        trusted: trusted?,
    };
    // Whoever wrote half of them is to write them anew.
    let whole = files(&credentials)
        .iter()
        .all(|(name, text)| state::read_private(&folder.join(name)).is_ok_and(|found| found == *text));
    whole.then_some(credentials)
}

fn write(folder: &Path, credentials: &Credentials) -> io::Result<()> {
    state::own_folder(folder)?;
    let files = files(credentials);
    files
        .iter()
        .try_for_each(|(name, text)| state::write_private(&folder.join(name), text.as_bytes()))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()), "give another --state-dir")
}

fn not_made(error: &portcullis_xds::authority::CertificateError) -> Failure {
    Failure::new(error.to_string(), "check the clock and the kernel's getrandom")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn text(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(FOLDER).join(file)).unwrap()
    }

    #[test]
    fn credentials_are_kept_until_they_are_due() {
        let state = tempfile::tempdir().unwrap();
        let (mut keeper, _shown) = Folder::open(state.path(), NOW).unwrap();
        let gateways = ["edge/public", "edge/inner"];
        keeper.renew(gateways.into_iter(), NOW).unwrap();
        let first = text(state.path(), "edge/public/tls.crt");
        let authorities = text(state.path(), AUTHORITIES);

        // Another run goes on with what there is.
        let (mut keeper, mut shown) = Folder::open(state.path(), NOW + DAY).unwrap();
        keeper.renew(gateways.into_iter(), NOW + DAY).unwrap();
        assert_eq!(text(state.path(), "edge/public/tls.crt"), first);
        assert_eq!(text(state.path(), AUTHORITIES), authorities);
        assert!(!shown.has_changed().unwrap());
        keeper.renew(gateways.into_iter(), NOW + 6 * DAY).unwrap();
        let second = text(state.path(), "edge/public/tls.crt");
        assert_ne!(second, first);
        assert!(text(state.path(), "edge/public/certificate.json").contains(&second.replace('\n', "\\n")));
        assert!(shown.has_changed().unwrap(), "the controller's own too");
        shown.mark_unchanged();

        // A new authority is known to everybody before anything is shown that it signed.
        keeper.renew(gateways.into_iter(), NOW + 250 * DAY).unwrap();
        let trusted = text(state.path(), "edge/public/ca.crt");
        assert_eq!(trusted.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(shown.has_changed().unwrap());
    }

    #[test]
    fn half_of_a_gateways_credentials_are_made_anew_and_those_of_a_gateway_that_is_gone_go() {
        let state = tempfile::tempdir().unwrap();
        let (mut keeper, _shown) = Folder::open(state.path(), NOW).unwrap();
        keeper.renew(["edge/public", "edge/inner"].into_iter(), NOW).unwrap();
        let folder = state.path().join(FOLDER).join("edge/public");
        let before = text(state.path(), "edge/public/tls.crt");
        fs::remove_file(folder.join("trust.json")).unwrap();
        keeper.renew(["edge/public"].into_iter(), NOW).unwrap();
        assert_ne!(text(state.path(), "edge/public/tls.crt"), before);
        assert!(folder.join("trust.json").exists());
        assert!(!state.path().join(FOLDER).join("edge/inner").exists());
        assert!(state.path().join(FOLDER).join(AUTHORITIES).exists());
    }

    #[test]
    fn nobody_else_may_have_read_the_authorities() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        drop(Folder::open(state.path(), NOW).unwrap());
        let path = state.path().join(FOLDER).join(AUTHORITIES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Folder::open(state.path(), NOW).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no PEM").unwrap();
        let failure = Folder::open(state.path(), NOW).err().unwrap().to_string();
        assert!(failure.contains("authorities.pem: holds no pairs"), "{failure}");
    }
}
