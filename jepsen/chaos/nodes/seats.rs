//! Which nodes belong to the cluster. One that is exchanged gives its place to another one and joins again later, with
//! an empty folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::Nodes;

impl Nodes {
    /// Where the nodes are that belong to the cluster.
    pub fn members(&self) -> Vec<SocketAddr> {
        self.seats.iter().map(|at| self.addresses[*at]).collect()
    }

    /// The node that has a place.
    pub fn seat(&self, place: usize) -> usize {
        self.seats[place]
    }

    /// A node that belongs to no cluster and can be started.
    pub fn spare(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|at| !self.seats.contains(at) && !self.runs(*at) && self.is_well(*at))
    }

    /// It has taken the place of another one.
    pub fn take_seat(&mut self, place: usize, at: usize) {
        self.seats[place] = at;
    }

    /// No fault is on a node that has to be undone.
    pub fn is_well(&self, at: usize) -> bool {
        !self.nodes[at].is_harmed
    }

    /// An operator has one down, whom no other one touches.
    pub fn is_in_work(&mut self, at: usize, is_harmed: bool) {
        self.nodes[at].is_harmed = is_harmed;
    }

    /// Where it keeps its data, and its log.
    pub fn paths(&self, at: usize) -> (PathBuf, PathBuf) {
        (self.nodes[at].data.clone(), self.nodes[at].log.clone())
    }

    /// It may end by itself, or has to: it leaves the cluster, or its folder is damaged.
    pub fn may_end(&mut self, at: usize, may: bool) {
        self.nodes[at].leaves = may;
    }

    /// It ends in good order.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn terminate(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].may_end = true;
        self.signal(&[at], Signal::TERM)
    }

    /// It starts again, as another program.
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn start_as(&mut self, at: usize, program: &Path) -> anyhow::Result<()> {
        self.nodes[at].command[0] = program.display().to_string();
        self.nodes[at].may_end = false;
        self.spawn(at)
    }

    /// It is dead, and has lost its disk.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn lose(&mut self, at: usize) -> anyhow::Result<()> {
        self.kill(&[at])?;
        self.put_aside(at)
    }

    /// It starts with an empty folder, and asks another node to be taken in.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn join(&mut self, at: usize, asks: usize) -> anyhow::Result<()> {
        self.put_aside(at)?;
        self.nodes[at].begin = vec!["--join".to_string(), self.peers[asks].clone()];
        self.nodes[at].leaves = false;
        self.spawn(at)
    }

    /// What it held stays beside its folder, for whoever looks for the cause of a finding.
    fn put_aside(&self, at: usize) -> anyhow::Result<()> {
        let data = &self.nodes[at].data;
        if data.exists() {
            let aside = (1..).map(|number| data.with_extension(format!("old-{number}"))).find(|path| !path.exists());
            std::fs::rename(data, aside.unwrap_or_default())?;
        }
        Ok(std::fs::create_dir_all(data)?)
    }
}
