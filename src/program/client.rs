//! A client of the own protocol, for administration.

use anyhow::{Context, bail};
use bytes::BytesMut;
use quoris_resp::{Argv, Reply, ReplyDecoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection to a node.
pub(super) struct Client {
    stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
}

impl Client {
    /// Connects, and logs in when there is a password.
    pub async fn connect(address: &str, password: Option<&str>) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no node answers at {address}"))?;
        stream.set_nodelay(true)?;
        let mut client = Client { stream, input: BytesMut::new(), output: Vec::new() };
        if let Some(password) = password {
            client.ask(&["AUTH", password]).await?;
        }
        Ok(client)
    }

    /// Puts a command into the output; [`Client::flush`] sends it.
    pub fn send<T: AsRef<[u8]>>(&mut self, parts: &[T]) {
        self.output.extend_from_slice(Argv::from_parts(parts).frame());
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// Sends what waits.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }

    /// The next reply, errors included.
    pub async fn receive(&mut self) -> anyhow::Result<Reply> {
        loop {
            if let Some(reply) = ReplyDecoder::decode(&mut self.input).map_err(anyhow::Error::msg)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the node closed the connection");
            }
        }
    }

    /// Sends one command and gives its reply; an error reply is an error.
    pub async fn ask<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> anyhow::Result<Reply> {
        self.send(parts);
        self.flush().await?;
        match self.receive().await? {
            Reply::Error(text) => bail!("{}", String::from_utf8_lossy(&text)),
            reply => Ok(reply),
        }
    }

    /// The same, for a reply that is a text.
    pub async fn ask_text<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> anyhow::Result<String> {
        match self.ask(parts).await? {
            Reply::Bulk(text) | Reply::Verbatim(_, text) | Reply::Status(text) => {
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            other => bail!("a text was expected, not {other:?}"),
        }
    }
}
