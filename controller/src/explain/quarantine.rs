//! What a running controller keeps about virtual hosts that its proxies do not take.

use std::{fs, io, path::Path};

use portcullis_xds::Resource;

use crate::{failure::Failure, load::Evaluation, quarantine::Quarantine, state};

/// What a controller's state folder holds.
pub(super) struct Kept {
    /// The key that names policies.
    pub(super) salt_key: [u8; 32],
    quarantine: Quarantine,
}

/// A virtual host that answers 500 because a proxy did not take it.
pub(super) struct Closed {
    gateway: String,
    table: String,
    host: String,
    reason: String,
}

impl Closed {
    /// Whether it is that one, and why a proxy did not take it.
    pub(super) fn reason(&self, gateway: &str, table: Option<&str>, host: Option<&str>) -> Option<&str> {
        let same = self.gateway == gateway && table == Some(self.table.as_str()) && host == Some(self.host.as_str());
        same.then_some(self.reason.as_str())
    }
}

impl Kept {
    /// Reads a state folder, and writes nothing there.
    ///
    /// # Errors
    ///
    /// No controller has used it, or it cannot be read.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let salt_key = state::kept_key(folder)?;
        let path = folder.join(state::QUARANTINE_FILE);
        let memory = match fs::read_to_string(&path) {
            Ok(memory) => memory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::new(format!("{}: {error}", path.display()), "")),
        };
        Ok(Self {
            salt_key,
            quarantine: Quarantine::recall(&memory),
        })
    }

    /// Closes in a configuration what the controller closes.
    pub(super) fn close(mut self, evaluation: &mut Evaluation) -> Vec<Closed> {
        let mut closed = Vec::new();
        for configuration in &mut evaluation.translation.configurations {
            let gateway = &configuration.gateway;
            let resources = configuration.resources.iter();
            let translated = resources
                .map(|resource| Resource::new(resource.type_url, resource.name.clone(), resource.body.clone()))
                .collect();
            let published = self.quarantine.apply(gateway, translated);
            for (resource, published) in configuration.resources.iter_mut().zip(published) {
                resource.body = published.body().clone();
            }
            closed.extend(self.quarantine.replaced(gateway).map(|replaced| Closed {
                gateway: gateway.clone(),
                table: replaced.table.to_owned(),
                host: replaced.virtual_host.to_owned(),
                reason: replaced.reason.to_owned(),
            }));
        }
        closed
    }
}
