//! `portcullis drain`: lets an Envoy end without cutting off anybody, as a pod does before it stops.

use std::time::{Duration, Instant};

use clap::Args;

use crate::{
    Answer,
    admin::{self, Admin},
    cli::Ready,
    failure::Failure,
    print,
};

/// How often the connections are counted.
const INTERVAL: Duration = Duration::from_millis(250);

/// Which Envoy, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct DrainArgs {
    /// Envoy's admin interface: unix:PATH or http://ADDRESS:PORT.
    #[arg(value_name = "WHERE")]
    pub envoy: Ready,
    /// Seconds to go on serving at least: load balancers must first have noticed.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub at_least: u64,
    /// Seconds after which connections that are left no longer count.
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    pub at_most: u64,
}

/// Tells Envoy to send its clients away and waits until they are gone: 1 if some are not.
pub(crate) fn drain(args: &DrainArgs) -> Result<Answer, Failure> {
    let admin = Admin::of(&args.envoy).map_err(|path| {
        let path = path.display();
        Failure::new(
            format!("`{path}` is not an admin interface"),
            format!("write unix:{path}"),
        )
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(error.to_string(), ""))?;
    let (least, most) = (Duration::from_secs(args.at_least), Duration::from_secs(args.at_most));
    let left = runtime
        .block_on(until_empty(&admin, least, most))
        .map_err(|error| admin::silent(&error))?;
    if left > 0 {
        print::note(&format!("{left} connections are left"));
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}

/// Drains, and gives how many connections are left in the end.
async fn until_empty(admin: &Admin, least: Duration, most: Duration) -> std::io::Result<u64> {
    let start = Instant::now();
    // Fails Envoy's own readiness, so that no new client is sent here, and asks those of HTTP to leave with their next answer.
    post(admin, "/healthcheck/fail").await?;
    post(admin, "/drain_listeners?graceful&skip_exit").await?;
    loop {
        let (_, stats) = admin.get("/stats?filter=^listener%5C..*downstream_cx_active$").await?;
        let left = connections(&stats);
        let passed = start.elapsed();
        if passed >= most || left == 0 && passed >= least {
            return Ok(left);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn post(admin: &Admin, path: &str) -> std::io::Result<()> {
    match admin.post(path).await? {
        (200, _) => Ok(()),
        (status, body) => {
            let why = body.lines().last().unwrap_or_default();
            Err(std::io::Error::other(format!("{path}: {status} {why}")))
        }
    }
}

/// The connections of clients in lines such as `listener.0.0.0.0_10080.downstream_cx_active: 2`. Each worker has a line of its own
/// beside its listener's; who asks for the state of Envoy is no client.
fn connections(stats: &str) -> u64 {
    let lines = stats.lines().filter_map(|line| line.trim().split_once(": "));
    lines
        .filter(|(name, _)| !name.contains(".worker_") && !name.contains(".main_thread"))
        .filter_map(|(name, value)| {
            let listener = name.strip_prefix("listener.")?.strip_suffix(".downstream_cx_active")?;
            let internal = matches!(listener, "admin" | "state");
            value.parse::<u64>().ok().filter(|_| !internal)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn only_connections_of_clients_count() {
        let stats = "listener.0.0.0.0_10080.downstream_cx_active: 2\n\
                     listener.0.0.0.0_10080.worker_0.downstream_cx_active: 1\n\
                     listener.0.0.0.0_10080.worker_1.downstream_cx_active: 1\n\
                     listener.admin.downstream_cx_active: 1\n\
                     listener.admin.main_thread.downstream_cx_active: 1\n\
                     listener.state.downstream_cx_active: 1\n\
                     listener.[__]_443.downstream_cx_active: 3\n\
                     5e\n";
        assert_eq!(connections(stats), 5);
        assert_eq!(connections(""), 0);
    }

    /// An Envoy whose two clients leave one by one.
    #[tokio::test]
    async fn it_waits_until_the_last_client_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let admin = Admin::Pipe(path);
        let serve = async {
            let mut asked = Vec::new();
            for body in ["OK\n", "OK\n", "2", "1", "0"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).await.unwrap();
                asked.push(
                    String::from_utf8_lossy(&request[..read])
                        .lines()
                        .next()
                        .unwrap()
                        .to_owned(),
                );
                let body = format!("listener.0.0.0.0_80.downstream_cx_active: {body}\n");
                let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        };
        let (left, asked) = tokio::join!(until_empty(&admin, Duration::ZERO, Duration::from_secs(20)), serve);
        assert_eq!(left.unwrap(), 0);
        assert_eq!(asked[0], "POST /healthcheck/fail HTTP/1.1");
        assert_eq!(asked[1], "POST /drain_listeners?graceful&skip_exit HTTP/1.1");
    }

    #[tokio::test]
    async fn an_envoy_that_refuses_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let admin = Admin::Pipe(path);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\nno\n").await.unwrap();
        };
        let (left, ()) = tokio::join!(until_empty(&admin, Duration::ZERO, Duration::ZERO), serve);
        assert_eq!(left.unwrap_err().to_string(), "/healthcheck/fail: 403 no");
    }
}
