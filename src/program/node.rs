//! `quoris admin node`: nodes that come, drain, leave and are replaced.
//!
//! A command is a decision that the cluster keeps; what follows from it goes on without this program, which only
//! watches and says what is awaited. So it can be ended and asked again at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use quoris_resp::Reply;
use tokio::time::{Instant, sleep, timeout};

use super::{
    At,
    client::Client,
    status::{field, table},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long nobody may answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Lists the nodes, and what the cluster still has to do.
    List(At),
    /// Waits until a node has joined and has what it is to hold.
    Add {
        /// The new node's peer address; start it with --join.
        peer: String,
        #[command(flatten)]
        at: At,
    },
    /// Moves everything away from a node, which stays.
    Drain {
        /// The node's number.
        node: u64,
        #[command(flatten)]
        at: At,
        /// Lets it take replicas again instead.
        #[arg(long)]
        cancel: bool,
    },
    /// Moves everything away from a node and forgets it; its process ends.
    Remove {
        /// The node's number.
        node: u64,
        #[command(flatten)]
        at: At,
    },
    /// Gives the replicas of a node that is lost to others and forgets it.
    Replace {
        /// The lost node's number.
        node: u64,
        #[command(flatten)]
        at: At,
    },
}

type Fields = BTreeMap<String, String>;

/// The cluster, through whichever of its nodes answers.
struct Cluster {
    addresses: Vec<String>,
    password: Option<String>,
    client: Option<Client>,
}

impl Cluster {
    fn at(at: &At) -> Cluster {
        Cluster { addresses: vec![at.address()], password: at.password.clone(), client: None }
    }

    /// Asks, and goes on to another node when one does not answer.
    async fn ask(&mut self, parts: &[&str]) -> anyhow::Result<Reply> {
        let end = Instant::now() + SILENCE_MAX;
        let mut turn = 0;
        loop {
            match timeout(ANSWER_TIME_MAX, self.try_ask(turn, parts)).await {
                Ok(Ok(Reply::Error(text))) => bail!("{}", String::from_utf8_lossy(&text).trim_start_matches("ERR ")),
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(e)) if Instant::now() > end => return Err(e),
                Err(_) if Instant::now() > end => bail!("no answer from {}", self.addresses.join(", ")),
                Ok(Err(_)) | Err(_) => (self.client, turn) = (None, turn + 1),
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_ask(&mut self, turn: usize, parts: &[&str]) -> anyhow::Result<Reply> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let address = &self.addresses[turn % self.addresses.len()];
                none.insert(Client::connect(address, self.password.as_deref()).await?)
            }
        };
        client.send(parts);
        client.flush().await?;
        client.receive().await
    }

    /// All nodes; remembers where they are.
    async fn nodes(&mut self) -> anyhow::Result<Vec<Fields>> {
        let (Reply::Bulk(text) | Reply::Verbatim(_, text)) = self.ask(&["CLUSTER", "NODE", "LIST"]).await? else {
            bail!("a text was expected");
        };
        let line = |line: &str| {
            let fields = line.split(',').filter_map(|field| field.split_once('='));
            fields.map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let nodes: Vec<Fields> = String::from_utf8_lossy(&text).lines().map(line).collect();
        for node in &nodes {
            let address = field(node, "clients").to_string();
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        Ok(nodes)
    }

    async fn awaited(&mut self) -> anyhow::Result<Vec<String>> {
        let Reply::Array(lines) = self.ask(&["CLUSTER", "NODE", "AWAITED"]).await? else {
            bail!("a list was expected");
        };
        let text = |line| {
            if let Reply::Bulk(text) = line { String::from_utf8_lossy(&text).into_owned() } else { String::new() }
        };
        Ok(lines.into_iter().map(text).collect())
    }

    /// Says what is awaited whenever that changes, until nothing is and the nodes are as they should be.
    async fn watch(&mut self, missing: impl Fn(&[Fields]) -> Option<String>) -> anyhow::Result<()> {
        let mut said = Vec::new();
        loop {
            let nodes = self.nodes().await?;
            let mut awaited = self.awaited().await?;
            awaited.extend(missing(&nodes));
            if awaited.is_empty() {
                return Ok(());
            }
            if awaited != said {
                println!("awaited: {}", awaited.join("; "));
                said = awaited;
            }
            sleep(PAUSE).await;
        }
    }

    /// Decides, and watches until it is so; `missing` says what the node still lacks for that, if it is listed.
    async fn decide(
        &mut self,
        wish: &str,
        node: u64,
        missing: impl Fn(&Fields) -> Option<&'static str>,
    ) -> anyhow::Result<()> {
        self.nodes().await?;
        let id = node.to_string();
        self.ask(&["CLUSTER", "NODE", wish, &id]).await?;
        let is_it = |node: &&Fields| field(node, "id") == id;
        self.watch(|nodes| missing(nodes.iter().find(is_it)?).map(|what| format!("node {id} {what}"))).await
    }
}

/// Runs a command.
pub(super) async fn run(command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::List(at) => {
            let mut cluster = Cluster::at(&at);
            print!("{}", list(&cluster.nodes().await?));
            cluster.awaited().await?.iter().for_each(|line| println!("awaited: {line}"));
            Ok(())
        }
        NodeCommand::Add { peer, at } => {
            let mut cluster = Cluster::at(&at);
            let nodes = cluster.nodes().await?;
            let any = nodes.iter().map(|node| field(node, "peers")).find(|addr| !addr.is_empty()).unwrap_or("");
            if !nodes.iter().any(|node| field(node, "peers") == peer) {
                println!(
                    "on the new machine: quoris server --join {any} (with an empty data folder and peer-address {peer})"
                );
            }
            cluster
                .watch(|nodes| {
                    let there = nodes.iter().any(|node| field(node, "peers") == peer && field(node, "answers") == "1");
                    (!there).then(|| format!("{peer} has to join"))
                })
                .await?;
            println!("{peer} is part of the cluster");
            Ok(())
        }
        NodeCommand::Drain { node, at, cancel: true } => {
            Cluster::at(&at).decide("SERVE", node, |_| None).await?;
            println!("node {node} takes replicas");
            Ok(())
        }
        NodeCommand::Drain { node, at, cancel: false } => {
            let holds = |node: &Fields| (field(node, "replicas") != "0").then_some("still holds replicas");
            Cluster::at(&at).decide("DRAIN", node, holds).await?;
            println!("node {node} holds nothing");
            Ok(())
        }
        NodeCommand::Remove { node, at } => {
            Cluster::at(&at).decide("REMOVE", node, |_| Some("is to be forgotten")).await?;
            println!("node {node} is no part of the cluster any more");
            Ok(())
        }
        NodeCommand::Replace { node, at } => {
            Cluster::at(&at).decide("REPLACE", node, |_| Some("is to be forgotten")).await?;
            println!("node {node} is replaced");
            Ok(())
        }
    }
}

fn list(nodes: &[Fields]) -> String {
    let columns = ["id", "clients", "peers", "zone", "state", "answers", "replicas"];
    let head = ["node", "clients", "peers", "zone", "state", "answers", "replicas"].map(String::from).to_vec();
    let value = |node: &Fields, column: &str| match (column, field(node, column)) {
        ("answers", "1") => "yes".to_string(),
        ("answers", _) => "no".to_string(),
        (_, "") => "-".to_string(),
        (_, value) => value.to_string(),
    };
    let rows = nodes.iter().map(|node| columns.iter().map(|column| value(node, column)).collect());
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
