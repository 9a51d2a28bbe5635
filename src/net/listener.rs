//! Listening sockets and the accept loop.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{Link, Service, Settings, Threads, Traffic, connection};

/// How long the accept loop rests after an error that will not go away by itself (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// What was to be bound.
    pub address: String,
    /// The system's reason.
    pub source: io::Error,
}

/// Opens listening sockets as Redis's `bind` directive names them: addresses or host names, `*` for
/// every address, a leading `-` for one that may be missing on this machine.
///
/// # Errors
/// When an address that is not optional cannot be bound, or none is left.
pub fn bind(addresses: &[String], port: u16, backlog: u32) -> Result<Vec<TcpListener>, BindError> {
    let mut sockets = Vec::new();
    for written in addresses {
        let (optional, host) = written.strip_prefix('-').map_or((false, written.as_str()), |host| (true, host));
        let host = match host {
            "*" => "0.0.0.0",
            "::*" => "::",
            other => other,
        };
        match listen(host, port, backlog) {
            Ok(socket) => sockets.push(socket),
            Err(e) if optional && is_missing(&e) => tracing::debug!(host, error = %e, "optional address not bound"),
            Err(source) => return Err(BindError { address: format!("{host}:{port}"), source }),
        }
    }
    if sockets.is_empty() {
        let source = io::Error::new(io::ErrorKind::AddrNotAvailable, "none of the addresses exists here");
        return Err(BindError { address: addresses.join(" "), source });
    }
    Ok(sockets)
}

/// The errors for which Redis skips an address with a leading `-`.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::AddrNotAvailable | Kind::Unsupported | Kind::InvalidInput)
        // EAFNOSUPPORT and EPROTONOSUPPORT: a kernel without IPv6.
        || matches!(error.raw_os_error(), Some(97 | 93))
}

fn listen(host: &str, port: u16, backlog: u32) -> io::Result<TcpListener> {
    let address =
        (host, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address"))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Accepts connections and serves each in a task of its own.
pub struct Listener<S> {
    service: Arc<S>,
    settings: Arc<Settings>,
    traffic: Arc<Traffic>,
    next_id: Arc<AtomicU64>,
    threads: Arc<Threads>,
}

impl<S> Clone for Listener<S> {
    fn clone(&self) -> Listener<S> {
        Listener {
            service: self.service.clone(),
            settings: self.settings.clone(),
            traffic: self.traffic.clone(),
            next_id: self.next_id.clone(),
            threads: self.threads.clone(),
        }
    }
}

impl<S> std::fmt::Debug for Listener<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("traffic", &self.traffic).finish_non_exhaustive()
    }
}

impl<S: Service> Listener<S> {
    /// A listener that makes its handlers with `service`. Clones share ids, settings, counters and threads.
    pub fn new(service: Arc<S>, settings: Arc<Settings>, traffic: Arc<Traffic>, threads: Arc<Threads>) -> Listener<S> {
        Listener { service, settings, traffic, next_id: Arc::new(AtomicU64::new(1)), threads }
    }

    /// Accepts until the task is dropped. Connections live on without it.
    pub async fn run(self, socket: TcpListener) {
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => self.take(stream, peer),
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(e) = self.prepare(&stream) {
            tracing::debug!(%peer, error = %e, "a socket option was refused");
        }
        let open = self.traffic.open.fetch_add(1, Relaxed);
        let slot = Slot(self.traffic.clone());
        if open >= self.settings.clients_max.load(Relaxed) {
            self.traffic.refused.fetch_add(1, Relaxed);
            refuse(&stream, b"-ERR max number of clients reached\r\n");
            return;
        }
        self.traffic.accepted.fetch_add(1, Relaxed);
        let Ok(local) = stream.local_addr() else { return };
        let link = Arc::new(Link::new(self.next_id.fetch_add(1, Relaxed), peer, local, stream.as_raw_fd()));
        match self.service.accept(link.clone()) {
            Ok(handler) => {
                let (settings, traffic) = (self.settings.clone(), self.traffic.clone());
                let Ok(stream) = stream.into_std() else { return };
                let (thread, outgoing, place) = self.threads.place();
                thread.spawn(async move {
                    let _held = (slot, place);
                    // The socket moves from the reactor of the accept loop to that of its thread.
                    match TcpStream::from_std(stream) {
                        Ok(stream) => connection::serve(stream, link, settings, traffic, outgoing, handler).await,
                        Err(e) => tracing::warn!(error = %e, "cannot serve a connection"),
                    }
                });
            }
            Err(line) => {
                self.traffic.refused.fetch_add(1, Relaxed);
                refuse(&stream, &line);
            }
        }
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let seconds = self.settings.keepalive_seconds.load(Relaxed);
        if seconds > 0 {
            // Redis's shape: three probes, a third of the idle time apart.
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(seconds))
                .with_interval(Duration::from_secs((seconds / 3).max(1)))
                .with_retries(3);
            SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
        }
        Ok(())
    }
}

/// One of the `maxclients` places; free again when it is dropped.
struct Slot(Arc<Traffic>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A fresh socket's buffer takes a line; a client that does not read it loses nothing that matters.
fn refuse(stream: &TcpStream, line: &[u8]) {
    let _ = stream.try_write(line);
}
