//! Whose port it is: listening sockets and the programs that hold them, from /proc.

use std::{
    collections::HashSet,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    path::Path,
};

/// Who listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A program that this user may look at.
    Program {
        /// Its process id.
        pid: u32,
        /// Its command line.
        command: String,
    },
    /// A program of another user, by the user's number.
    User(u32),
    /// Nobody that /proc names: another network namespace, or it has just ended.
    Unknown,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Program { pid, command } => write!(f, "pid {pid} ({command})"),
            Self::User(uid) => write!(f, "a program of user {uid}"),
            Self::Unknown => f.write_str("a program that this user may not see"),
        }
    }
}

/// Who listens on a TCP port already; nothing if it is free.
///
/// # Errors
///
/// The port cannot be bound for another reason, such as a missing permission.
pub(crate) fn busy(port: u16) -> io::Result<Option<Owner>> {
    // Envoy shares ports (SO_REUSEPORT), so a second one would bind without a word: only an exclusive bind tells.
    let in_use = |result: io::Result<TcpListener>| match result {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error),
    };
    let mut taken = in_use(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    if !taken {
        taken = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable
                ) =>
            {
                false
            }
            other => in_use(other).unwrap_or(false),
        };
    }
    Ok(taken.then(|| owner(Path::new("/proc"), port)))
}

fn owner(proc: &Path, port: u16) -> Owner {
    let mut inodes = HashSet::new();
    let mut user = None;
    for table in ["net/tcp", "net/tcp6"] {
        let text = fs::read_to_string(proc.join(table)).unwrap_or_default();
        for socket in text.lines().skip(1).filter_map(|line| listening(line, port)) {
            user = Some(socket.uid);
            inodes.insert(format!("socket:[{}]", socket.inode));
        }
    }
    holder(proc, &inodes)
        .or_else(|| user.map(Owner::User))
        .unwrap_or(Owner::Unknown)
}

struct Socket {
    uid: u32,
    inode: u64,
}

/// A line of /proc/net/tcp, if it is a socket that listens on the port (state 0A; proc_pid_net(5)).
fn listening(line: &str, port: u16) -> Option<Socket> {
    let mut fields = line.split_whitespace();
    let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port || fields.nth(1)? != "0A" {
        return None;
    }
    Some(Socket {
        uid: fields.nth(3)?.parse().ok()?,
        inode: fields.nth(1)?.parse().ok()?,
    })
}

fn holder(proc: &Path, inodes: &HashSet<String>) -> Option<Owner> {
    let entries = fs::read_dir(proc).ok()?;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let holds = files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_str().is_some_and(|target| inodes.contains(target)))
        });
        if holds {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            return Some(Owner::Program {
                pid,
                command: shown(&command),
            });
        }
    }
    None
}

/// A command line for people: its words, cut to one line.
fn shown(cmdline: &[u8]) -> String {
    let text = String::from_utf8_lossy(cmdline);
    let words: Vec<_> = text.split('\0').filter(|word| !word.is_empty()).collect();
    let line: String = words
        .join(" ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(120)
        .collect();
    if line.is_empty() {
        "no command line".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_this_program_holds_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let Some(Owner::Program { pid, command }) = busy(port).unwrap() else {
            panic!("the owner of port {port} was not found");
        };
        assert_eq!(pid, std::process::id());
        assert!(command.contains("portcullis"), "{command}");
        drop(listener);
        assert_eq!(busy(port).unwrap(), None);
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let line = |port: &str, state: &str| {
            format!(
                "   1: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0"
            )
        };
        let socket = listening(&line("1F90", "0A"), 8080).unwrap();
        assert_eq!((socket.uid, socket.inode), (1000, 4242));
        assert!(listening(&line("1F90", "01"), 8080).is_none());
        assert!(listening(&line("1F91", "0A"), 8080).is_none());
        assert!(listening("nonsense", 8080).is_none());
    }

    #[test]
    fn an_owner_that_may_not_be_seen_is_named_by_its_user() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("net")).unwrap();
        fs::write(
            root.path().join("net/tcp"),
            "header\n 0: 00000000:1F90 00000000:0000 0A 0:0 00:0 0 1000 0 4242 1\n",
        )
        .unwrap();
        assert_eq!(owner(root.path(), 8080), Owner::User(1000));
        assert_eq!(owner(root.path(), 8081), Owner::Unknown);
    }
}
