//! Values of options that are more than a word.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use portcullis_engine::geography::Field;

/// `NAME: VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderLine {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Something that a database says of an address; nothing if none holds it.
#[derive(Clone, Debug)]
pub(crate) struct Told(pub Option<(Field, String)>);

impl FromStr for Told {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        let field = Field::ALL.into_iter().find(|field| field.name() == name);
        let field = field.ok_or_else(|| {
            let names = Field::ALL.map(Field::name);
            format!("{name:?} is none of {}", names.join(", "))
        })?;
        Ok(Self(Some((field, value.to_owned()))))
    }
}

impl FromStr for HeaderLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("write 'NAME: VALUE'")?;
        Ok(Self {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

/// Whom to ask whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// A controller, by its xDS socket.
    Controller(PathBuf),
    /// An Envoy, by its admin interface on a unix socket.
    AdminPipe(PathBuf),
    /// An Envoy, by its admin interface on TCP.
    Admin(SocketAddr),
}

impl FromStr for Ready {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::AdminPipe(PathBuf::from(path)));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            let port = text
                .rsplit_once(':')
                .map(|(_, port)| port)
                .filter(|_| !text.contains('/'));
            if port.is_some_and(|port| port.parse::<u16>().is_ok()) {
                return Err(format!(
                    "`{text}` is neither a socket's path nor a URL; write http://{text} for Envoy's admin interface, or ./{text} for a path"
                ));
            }
            return Ok(Self::Controller(PathBuf::from(text)));
        };
        let address = rest.split_once('/').map_or(rest, |(address, _)| address);
        address
            .parse()
            .map(Self::Admin)
            .map_err(|_| format!("`{address}` is not an address with a port; write http://127.0.0.1:9901"))
    }
}

/// `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("write HOST:PORT")?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || (host.contains(':') && bare.is_none()) || host.contains(['/', '@', ' ']) {
            return Err("write HOST:PORT, an IPv6 address in brackets".to_owned());
        }
        let number = port.parse().ok().filter(|port| *port > 0);
        Ok(Self {
            host: host.to_owned(),
            port: number.ok_or_else(|| format!("`{port}` is not a port; write a number from 1 to 65535"))?,
        })
    }
}

/// `NAMESPACE/NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendOverride {
    /// `namespace/name` of the Service.
    pub service: String,
    /// `host:port`.
    pub endpoint: String,
}

impl FromStr for BackendOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let usage = || "write NAMESPACE/NAME=HOST:PORT".to_owned();
        let (service, endpoint) = text.split_once('=').ok_or_else(usage)?;
        let (namespace, name) = service.split_once('/').ok_or_else(usage)?;
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(usage)?;
        if namespace.is_empty() || name.is_empty() || name.contains('/') || host.is_empty() {
            return Err(usage());
        }
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(format!("`{port}` is not a port; write a number from 1 to 65535"));
        }
        Ok(Self {
            service: service.to_owned(),
            endpoint: endpoint.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_written_whole() {
        let backend: BackendOverride = "shop/orders=[::1]:8080".parse().unwrap();
        assert_eq!(backend.service, "shop/orders");
        assert_eq!(backend.endpoint, "[::1]:8080");
        for wrong in [
            "shop/orders",
            "orders=a:1",
            "/x=a:1",
            "a/b/c=d:1",
            "shop/orders=a",
            "a/b=:1",
            "a/b=c:0",
            "a/b=c:x",
        ] {
            assert!(wrong.parse::<BackendOverride>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_controller_is_somewhere() {
        let is = |text: &str, host: &str, port: u16| {
            assert_eq!(
                text.parse(),
                Ok(HostPort {
                    host: host.to_owned(),
                    port
                })
            );
        };
        is("portcullis.example.com:18000", "portcullis.example.com", 18_000);
        is("[2001:db8::1]:18000", "2001:db8::1", 18_000);
        for wrong in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:x",
            "2001:db8::1:18000",
            "http://a:1",
            "a b:1",
        ] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn readiness_is_asked_of_a_socket_or_an_admin_interface() {
        assert_eq!(
            "/run/x.sock".parse(),
            Ok(Ready::Controller(PathBuf::from("/run/x.sock")))
        );
        assert_eq!(
            "unix:/run/a.sock".parse(),
            Ok(Ready::AdminPipe(PathBuf::from("/run/a.sock")))
        );
        assert_eq!(
            "http://127.0.0.1:9901/ready".parse(),
            Ok(Ready::Admin(SocketAddr::from(([127, 0, 0, 1], 9901))))
        );
        assert!("http://nowhere".parse::<Ready>().is_err());
        assert!("foo:1".parse::<Ready>().is_err_and(|why| why.contains("http://foo:1")));
        assert!("./foo:1".parse::<Ready>().is_ok());
    }
}
