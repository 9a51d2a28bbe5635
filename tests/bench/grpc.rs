//! The etcd load client: gRPC over h2 on one thread, closed loop.
//!
//! `clients` logical clients each keep one call in flight. They share a few HTTP/2 connections
//! (`--etcd-connections`, 6 unless told), because that is kindest to etcd: its server then reads
//! and writes many frames per system call. With one connection per client the same three members
//! used half as much processor time again per call. For the same reason all connections go to the
//! leader unless told otherwise: a follower passes every Put and every linearizable Range on to
//! it, which cost a quarter more per Range. Messages are written by hand (`protobuf`).
//!
//! Invariants:
//! * every reply is checked: HTTP status, grpc-status and the message;
//! * a call counts once its trailers have arrived;
//! * `run` returns only when no call is in flight.

use crate::interrupt;
use crate::protobuf::{self, Status};
use crate::random::{Random, VALUE_BYTES, ValuePool};
use crate::resp::{Command, Keys, key};
use crate::window::{Limit, SILENCE_MAX, Sample, Window};
use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, Version};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a running load looks for signals and silence.
const WATCH: Duration = Duration::from_millis(200);
/// Large enough that flow control never holds a small reply back.
const FLOW_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A channel to one etcd member; clones share the connection.
#[derive(Clone, Debug)]
struct Channel {
    sender: SendRequest<Bytes>,
    endpoint: SocketAddr,
}

/// Connections to a cluster and what to call on them.
#[derive(Debug)]
pub struct EtcdLoad {
    // The order matters: the runtime drives the connections and must go last.
    channels: Vec<Channel>,
    clients: usize,
    command: Command,
    state: Rc<RefCell<State>>,
    tasks: LocalSet,
    runtime: Runtime,
}

/// What all clients share between two calls.
#[derive(Debug)]
struct State {
    keys: Keys,
    random: Random,
    values: ValuePool,
    window: Window,
}

impl EtcdLoad {
    /// Opens `connections`, spread evenly over the endpoints, for `clients` logical clients.
    pub fn connect(
        endpoints: &[SocketAddr],
        connections: usize,
        clients: usize,
        command: Command,
        keys: Keys,
    ) -> Result<EtcdLoad> {
        ensure!(!endpoints.is_empty() && connections > 0, "no endpoint to connect to");
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let channels = tasks.block_on(&runtime, async {
            let mut channels = Vec::with_capacity(connections);
            for &endpoint in endpoints.iter().cycle().take(connections.min(clients)) {
                channels.push(Channel::open(endpoint).await?);
            }
            anyhow::Ok(channels)
        })?;
        let state = Rc::new(RefCell::new(State {
            keys,
            random: Random::new(0x51_0715),
            values: ValuePool::new(0xBE7C),
            window: Window::open(Limit::operations(0)),
        }));
        Ok(EtcdLoad { channels, clients, command, state, tasks, runtime })
    }

    /// Runs the load until the limit is reached and every reply has arrived.
    pub fn run(&mut self, limit: Limit) -> Result<Sample> {
        self.state.borrow_mut().window = Window::open(limit);
        let (channels, state, command) = (&self.channels, &self.state, self.command);
        self.tasks.block_on(&self.runtime, async {
            let mut clients = JoinSet::new();
            for channel in channels.iter().cycle().take(self.clients) {
                clients.spawn_local(client(channel.clone(), Rc::clone(state), command));
            }
            loop {
                match timeout(WATCH, clients.join_next()).await {
                    Ok(Some(client)) => client.context("a client task")??,
                    Ok(None) => return anyhow::Ok(()),
                    Err(_) => {
                        interrupt::check()?;
                        let stalled = state.borrow().window.is_stalled(Instant::now());
                        ensure!(!stalled, "etcd has not answered for {SILENCE_MAX:?}");
                    }
                }
            }
        })?;
        let closed = Window::open(Limit::operations(0));
        Ok(std::mem::replace(&mut self.state.borrow_mut().window, closed).close())
    }
}

/// One logical client: a call after the other while the window is open.
async fn client(mut channel: Channel, state: Rc<RefCell<State>>, command: Command) -> Result<()> {
    let put = channel.head(protobuf::PUT)?;
    let range = channel.head(protobuf::RANGE)?;
    loop {
        let sent = Instant::now();
        let (name, request) = {
            let State { keys, random, values, window } = &mut *state.borrow_mut();
            if !window.issue(sent, 1) {
                return Ok(());
            }
            let name = key(keys.next(random));
            let request = match command {
                Command::Set => protobuf::put(&name, values.pick(random)),
                Command::Get | Command::Publish(_) => protobuf::range(&name),
            };
            (name, request)
        };
        match command {
            Command::Set => {
                let body = channel.call(&put, request).await?;
                protobuf::check_put(protobuf::unframe(&body)?)?;
            }
            Command::Get | Command::Publish(_) => {
                let body = channel.call(&range, request).await?;
                protobuf::check_range(protobuf::unframe(&body)?, &name, VALUE_BYTES)?;
            }
        }
        state.borrow_mut().window.complete(sent, Instant::now(), 1);
    }
}

impl Channel {
    async fn open(endpoint: SocketAddr) -> Result<Channel> {
        let connect = async {
            let stream = TcpStream::connect(endpoint).await?;
            stream.set_nodelay(true)?;
            let handshake = h2::client::Builder::new()
                .initial_window_size(FLOW_WINDOW_BYTES)
                .initial_connection_window_size(FLOW_WINDOW_BYTES)
                .handshake(stream);
            anyhow::Ok(handshake.await?)
        };
        let (sender, connection) = timeout(TIMEOUT, connect).await?.context(endpoint)?;
        // The calls on a connection that ends report the error; the driver has nobody to tell.
        tokio::task::spawn_local(async move { connection.await.ok() });
        Ok(Channel { sender, endpoint })
    }

    /// The head of every call of one method.
    fn head(&self, path: &'static str) -> Result<Request<()>> {
        let uri = format!("http://{}{path}", self.endpoint);
        Ok(Request::post(uri)
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?)
    }

    /// One unary call: the body of the reply, after its status has been checked.
    async fn call(&mut self, head: &Request<()>, message: Vec<u8>) -> Result<Bytes> {
        std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, mut stream) = self.sender.send_request(head.clone(), false)?;
        stream.send_data(Bytes::from(message), true)?;
        let (reply, mut body) = response.await.context(self.endpoint)?.into_parts();
        ensure!(reply.status == 200, "{} answered with status {}", self.endpoint, reply.status);
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?;
        check_status(trailers.as_ref().unwrap_or(&reply.headers))
            .with_context(|| format!("{} refused {}", self.endpoint, head.uri().path()))?;
        Ok(bytes.freeze())
    }
}

fn check_status(headers: &HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        status => bail!("grpc-status {status:?}, message {:?}", text("grpc-message")),
    }
}

/// Asks every member for its status, in the order of the endpoints.
pub fn statuses(endpoints: &[SocketAddr]) -> Result<Vec<Status>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut statuses = Vec::with_capacity(endpoints.len());
        for &endpoint in endpoints {
            let mut channel = Channel::open(endpoint).await?;
            let head = channel.head(protobuf::STATUS)?;
            let call = channel.call(&head, protobuf::status());
            let body = timeout(TIMEOUT, call).await??;
            statuses.push(protobuf::read_status(protobuf::unframe(&body)?)?);
        }
        Ok(statuses)
    })
}

/// Whether the cluster has one leader that all members know, and takes writes.
pub fn takes_writes(endpoints: &[SocketAddr]) -> Result<bool> {
    let statuses = statuses(endpoints)?;
    let leader = statuses[0].leader;
    if leader == 0 || statuses.iter().any(|status| status.leader != leader) {
        return Ok(false);
    }
    let mut load = EtcdLoad::connect(endpoints, 1, 1, Command::Set, Keys::Sequential(0))?;
    Ok(load.run(Limit::operations(1))?.operations == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_zero_is_success() {
        let headers = |status: &'static str| {
            HeaderMap::from_iter([("grpc-status".parse().expect("a name"), status.parse().expect("a value"))])
        };
        assert!(check_status(&headers("0")).is_ok());
        assert!(check_status(&headers("14")).is_err());
        assert!(check_status(&HeaderMap::new()).is_err());
    }
}
