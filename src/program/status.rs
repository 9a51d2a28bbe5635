//! What the nodes of a cluster say about themselves, as tables: `quoris admin status`.

use std::{collections::BTreeMap, time::Duration};

use quoris_resp::Reply;

use super::client::Client;

/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// One node's `INFO raft`.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub ready: bool,
    pub node: String,
    pub cluster: String,
    pub fsync: String,
    pub nodes: Vec<BTreeMap<String, String>>,
    pub groups: Vec<BTreeMap<String, String>>,
}

impl View {
    /// Reads the section's lines.
    pub fn parse(text: &str) -> View {
        let mut view = View::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let fields = || {
                value
                    .split(',')
                    .filter_map(|field| field.split_once('='))
                    .map(|(k, v)| (k.to_string(), v.to_string()))
                    .collect()
            };
            let numbered = |prefix: &str| {
                name.strip_prefix(prefix)
                    .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
            };
            match name {
                "ready" => view.ready = value == "1",
                "node" => view.node = value.into(),
                "cluster_id" => view.cluster = value.into(),
                "fsync" => view.fsync = value.into(),
                _ if numbered("node") => view.nodes.push(fields()),
                _ if numbered("group") => view.groups.push(fields()),
                _ => {}
            }
        }
        view
    }

    /// Asks a node.
    pub async fn ask(address: &str, password: Option<&str>) -> anyhow::Result<View> {
        let ask = async { Client::connect(address, password).await?.ask_text(&["INFO", "raft"]).await };
        let text = tokio::time::timeout(ANSWER_TIME_MAX, ask)
            .await
            .map_err(|_| anyhow::anyhow!("no answer from {address} in time"))??;
        Ok(View::parse(&text))
    }

    /// Whether every group has a leader.
    pub fn is_led(&self) -> bool {
        !self.groups.is_empty() && self.groups.iter().all(|group| field(group, "leader") != "none")
    }
}

pub(super) fn field<'a>(fields: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    fields.get(name).map_or("", String::as_str)
}

fn number(fields: &BTreeMap<String, String>, name: &str) -> u64 {
    field(fields, name).parse().unwrap_or(0)
}

/// Asks every node that `first` knows; a node that does not answer has no view.
pub(super) async fn everybody(first: &View, password: Option<&str>) -> BTreeMap<String, View> {
    let mut views = BTreeMap::new();
    for node in &first.nodes {
        if let Ok(view) = View::ask(field(node, "addr"), password).await {
            views.insert(field(node, "id").to_string(), view);
        }
    }
    views
}

/// Confirms the clocks that are held on every node; only leaders do, so each is asked.
pub(super) async fn confirm_clocks(first: &View, password: Option<&str>) -> anyhow::Result<i64> {
    let mut confirmed = 0;
    for node in &first.nodes {
        // Whether the first node has a connection to it says nothing: the leader may just have been restarted.
        let mut client = match Client::connect(field(node, "addr"), password).await {
            Ok(client) => client,
            Err(e) => {
                eprintln!("node {} was not asked: {e:#}", field(node, "id"));
                continue;
            }
        };
        if let Reply::Int(count) = client.ask(&["CLUSTER", "CONFIRM-CLOCK"]).await? {
            confirmed += count;
        }
    }
    Ok(confirmed)
}

/// The two tables: nodes, and groups as their leaders see them.
pub(super) fn tables(first: &View, views: &BTreeMap<String, View>) -> String {
    let mut nodes = vec![["node", "clients", "peers", "state", "leads"].map(String::from).to_vec()];
    for node in &first.nodes {
        let id = field(node, "id");
        let leads =
            first.groups.iter().filter(|group| field(group, "leader") == id && field(group, "id") != "0").count();
        let state = match views.get(id) {
            None => "no answer",
            Some(view) if view.ready => "ready",
            Some(view) if view.groups.iter().any(|group| field(group, "quarantined") == "1") => "quarantined",
            Some(view) if view.groups.iter().any(|group| field(group, "clock_held") == "1") => "clock held",
            Some(_) => "not ready",
        };
        nodes.push(vec![
            id.into(),
            field(node, "addr").into(),
            field(node, "peer").into(),
            state.into(),
            leads.to_string(),
        ]);
    }
    let mut groups = vec![
        ["group", "leader", "term", "commit", "applied", "log", "snapshot", "slots", "replicas (lag)"]
            .map(String::from)
            .to_vec(),
    ];
    for group in &first.groups {
        // Only a leader knows how far its followers are.
        let seen = views
            .get(field(group, "leader"))
            .and_then(|view| view.groups.iter().find(|other| field(other, "id") == field(group, "id")));
        groups.push(group_row(seen.unwrap_or(group), views));
    }
    format!("cluster {}, fsync {}\n\n{}\n{}", first.cluster, first.fsync, table(&nodes), table(&groups))
}

fn group_row(group: &BTreeMap<String, String>, views: &BTreeMap<String, View>) -> Vec<String> {
    let id = field(group, "id");
    let last = number(group, "last");
    let replicas = field(group, "replicas").split('+').filter_map(|replica| {
        let (node, matched) = replica.split_once(':')?;
        let applied = views
            .get(node)
            .and_then(|view| view.groups.iter().find(|other| field(other, "id") == id))
            .map(|own| number(own, "applied"));
        Some(match (applied, matched.parse::<u64>()) {
            (None, _) => format!("{node} (no answer)"),
            (Some(_), Ok(matched)) => format!("{node} ({})", last.saturating_sub(matched)),
            (Some(applied), Err(_)) => format!("{node} ({})", last.saturating_sub(applied)),
        })
    });
    let name = if id == "0" { "0 (meta)".to_string() } else { id.to_string() };
    let plain = ["leader", "term", "commit", "applied", "log_bytes", "snapshot", "slots"]
        .map(|column| field(group, column).to_string());
    std::iter::once(name).chain(plain).chain(std::iter::once(replicas.collect::<Vec<_>>().join(" "))).collect()
}

/// Columns of equal width, the first row as the head.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_reads_the_section() {
        let text = "# Raft\r\nready:1\r\nnode:2\r\ngroup0:id=0,leader=1\r\ngroup1:id=1,role=leader,leader=2,last=10,replicas=1:8+2:10\r\n\
                    groups_led:1\r\nnode1:id=1,addr=a:1,peer=a:2\r\nnode2:id=2,addr=b:1,peer=b:2\r\n";
        let view = View::parse(text);
        assert!(view.ready && view.is_led());
        assert_eq!((view.groups.len(), view.nodes.len(), view.node.as_str()), (2, 2, "2"));
        let shown = tables(&view, &BTreeMap::from([("1".to_string(), view.clone()), ("2".to_string(), view.clone())]));
        assert!(shown.contains("1 (2) 2 (0)"), "{shown}");
    }
}
