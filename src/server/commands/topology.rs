//! CLUSTER NODE: what `quoris admin node` asks any node for.

use quoris_engine::number;
use quoris_raft::{NodeId, NodeSummary, Wish};
use quoris_resp::{Argv, Reply};

use super::{Served, word};
use crate::client::Client;

pub(super) async fn run(client: &Client, argv: &Argv) -> Served {
    let node = &client.server.node;
    if node.is_guest() {
        return Served::error("ERR a proxy is no part of the cluster: ask one of its nodes");
    }
    let wish = match word(argv, 2).as_str() {
        "list" if argv.len() == 3 => {
            let lines: String = node.node_summaries().await.iter().map(line).collect();
            return Reply::Verbatim(*b"txt", lines.into()).into();
        }
        "awaited" if argv.len() == 3 => {
            return Reply::Array(node.awaited().await.into_iter().map(Reply::bulk).collect()).into();
        }
        "drain" => Wish::Drain,
        "serve" => Wish::Serve,
        "remove" => Wish::Remove,
        "replace" => Wish::Replace,
        _ => return Served::Reply(quoris_engine::Error::Syntax.into()),
    };
    let id = argv.get(3).and_then(number::integer).and_then(|id| u64::try_from(id).ok());
    match id.filter(|_| argv.len() == 4) {
        None => Served::error("ERR a node is named by its number, as CLUSTER NODE LIST shows it"),
        Some(id) => match node.wish(NodeId(id), wish).await {
            Ok(()) => Reply::Ok.into(),
            Err(error) => Served::error(format!("ERR {error}")),
        },
    }
}

fn line(node: &NodeSummary) -> String {
    format!(
        "id={},clients={},peers={},zone={},state={},answers={},replicas={}\r\n",
        node.id.0,
        node.client_addr,
        node.peer_addr,
        node.zone,
        node.state,
        u8::from(node.answers),
        node.replicas
    )
}
